"""Which processes run, as Linux tells it."""

from pathlib import Path

PARENT, GROUP = 1, 2  # places in /proc/PID/stat, counted from the state


def running(place: int, pid: int) -> set[int]:
    """Processes that run and whose parent or group is that one."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[place]) == pid and fields[0] != "Z":
            found.add(int(folder.name))
    return found
