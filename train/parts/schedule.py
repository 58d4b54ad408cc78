"""Parts side by side: each in a process of its own, as soon as what it needs is there.

Most parts are bound to one core (small models), so two of them at once take little longer than
the longer one. What a part prints goes to DIR/logs/PART.txt; its last line is shown here.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from omni.files import UserError

LOGS = "logs"  # beside the parts: saving a checkpoint replaces its folder
TAIL_BYTES = 2000
POLL_S = 1.0


def ready(
    needs: Mapping[str, Sequence[str]], done: Sequence[str], begun: Sequence[str]
) -> list[str]:
    """The parts that could begin now, in the order of `needs`."""
    return [
        part
        for part, needed in needs.items()
        if part not in done and part not in begun and set(needed) <= set(done)
    ]


def run_parts(
    folder: Path,
    needs: Mapping[str, Sequence[str]],
    *,
    complete: Callable[[str], bool],
    command: Callable[[str, int], Sequence[str]],
    jobs: int,
    show: Callable[[str], None] | None = None,
) -> None:
    """Make all parts, at most `jobs` at a time.

    needs: part -> those that must be complete before it. command: what makes a part, given how
    many parts share the machine as it begins; its output goes to the part's log. show: gets what
    each running part last printed, once a second.
    Raises UserError if a part fails, after those beside it have ended.
    """
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed: list[str] = []
    try:
        while True:
            for part, process in list(running.items()):
                if process.poll() is not None:
                    del running[part]
                    if process.returncode or not complete(part):
                        failed.append(part)
            done = [part for part in needs if complete(part)]
            if not failed:
                begin = ready(needs, done, list(running))[: jobs - len(running)]
                sharing = len(running) + len(begin)
                for part in begin:
                    running[part] = _start(log_of(folder, part), command(part, sharing))
            if not running:
                break
            if show is not None:
                show("   ".join(f"{part}: {last_line(log_of(folder, part))}" for part in running))
            time.sleep(POLL_S)
    finally:
        for process in running.values():  # only if this process is being stopped
            process.terminate()
        for process in running.values():
            process.wait()
    if failed:
        log = log_of(folder, failed[0])
        raise UserError(
            f"{failed[0]}: failed: {last_line(log) or 'it printed nothing'}; see {log}; the same "
            "command goes on from here"
        )


def log_of(folder: Path, part: str) -> Path:
    """The file that what makes this part prints into."""
    return folder / LOGS / f"{part}.txt"


def _start(log: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:  # a resumed part's log goes on too
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def last_line(log: Path) -> str:
    """What was printed last, as a terminal would show it; "" for an empty log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    return next((line for line in reversed(lines) if line), "")


class StatusLine:
    """One line on a terminal, written over; into a file, a line a minute."""

    def __init__(self, *, every_s: float = 60.0) -> None:
        self._every_s = every_s
        self._last = -every_s

    def __call__(self, text: str) -> None:
        """Shows the text in place of the one before."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
        elif time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            sys.stderr.write(text + "\n")
        sys.stderr.flush()
