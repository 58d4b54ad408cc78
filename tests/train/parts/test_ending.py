"""A command that makes its model in parts and is killed leaves nothing running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omni.files import UserError, held
from train.parts.making import MadeInParts, Setting

# Begins a part that notes its process, and sleeps as a long training would.
COMMAND = """
import sys
from pathlib import Path
from train.commands.in_parts import ended_by_sigterm
from train.parts.schedule import run_parts
note = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
with ended_by_sigterm():
    run_parts(Path(sys.argv[1]), {"a": []}, complete=lambda part: False,
              command=lambda part, sharing: [sys.executable, "-c", note], jobs=1)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_parts_of_a_command_that_is_killed_end_with_it(tmp_path: Path) -> None:
    command = subprocess.Popen([sys.executable, "-c", COMMAND, str(tmp_path)])
    log = tmp_path / "logs" / "a.txt"
    deadline = time.monotonic() + 120
    while not (log.is_file() and log.read_text().endswith("\n")):
        assert time.monotonic() < deadline and command.poll() is None
        time.sleep(0.1)
    part = int(log.read_text())
    command.send_signal(signal.SIGTERM)
    assert command.wait(timeout=60) == 128 + signal.SIGTERM
    assert not is_running(part)


def test_a_part_that_another_process_makes_is_not_begun_beside_it(tmp_path: Path) -> None:
    made: list[str] = []
    model = MadeInParts(
        name="tiny",
        begin=lambda folder, *, restart=False, **options: Setting(folder=folder, seed=1),
        parts={"a": lambda at: {"made": made.append("a")}},
        needs={"a": ()},
    )
    (tmp_path / "logs").mkdir()
    with (
        held(tmp_path / "logs" / "a"),
        pytest.raises(UserError, match=r"logs/a: another run is working on it; wait for it"),
    ):
        model.build(tmp_path, "a")
    assert not made
    model.build(tmp_path, "a")
    assert made
