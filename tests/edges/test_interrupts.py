"""Ctrl-C and readers that go away end a command at once, quietly and with nothing half done."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from tests.commands import finished, started
from tests.processes import GROUP, running


def interrupted(process: subprocess.Popen, begins: Callable[[], bool]) -> tuple[int, str, str]:
    """Ctrl-C as a terminal gives it, to the whole process group, as soon as the work has begun."""
    patience = time.monotonic() + 100
    while not begins():
        assert process.poll() is None and time.monotonic() < patience, finished(process)
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    return finished(process)


def test_ctrl_c_stops_an_answer(kitchen: Path) -> None:
    process = started("omni demo -o answers", kitchen)
    code, _, err = interrupted(process, lambda: any((kitchen / "answers").glob("*.wav")))
    assert (code, err) == (130, "stopped\n")
    for path in (kitchen / "answers").iterdir():
        assert path.suffix == ".wav" and soundfile.info(path).duration > 0.1


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_stops_a_step_and_its_workers(workers: int, kitchen: Path) -> None:
    process = started(
        f"omni-data augment records.jsonl -o stopped{workers}.jsonl --workers {workers}", kitchen
    )
    journal = kitchen / f".stopped{workers}.augment.journal"
    code, _, err = interrupted(process, lambda: journal.exists() and journal.stat().st_size > 0)
    assert code == 130 and err.splitlines()[-1] == "stopped" and "Traceback" not in err
    assert not (kitchen / f"stopped{workers}.jsonl").exists()


def test_ctrl_c_stops_training(kitchen: Path) -> None:
    process = started("omni-train lm records.jsonl --recipe nano -o trained --epochs 1000", kitchen)
    code, _, err = interrupted(process, lambda: any((kitchen / "trained").rglob("events.*")))
    assert code == 130 and err.splitlines()[-1] == "stopped" and "Traceback" not in err


def test_ctrl_c_stops_a_measurement_and_what_kept_the_cores_busy(kitchen: Path) -> None:
    process = started("omni-serve bench load-robustness q.wav --checkpoint checkpoint", kitchen)
    code, _, err = interrupted(process, lambda: len(running(GROUP, process.pid)) > 1)
    assert code == 130 and err.splitlines()[-1] == "stopped" and "Traceback" not in err
    assert running(GROUP, process.pid) == set()


@pytest.mark.parametrize(
    "command",
    ["omni --help", "omni info", "omni-data --help", "omni-train lm --help"],
)
def test_a_reader_that_has_gone_ends_a_command_quietly(command: str, kitchen: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = started(command, kitchen, stdout=writer)
    os.close(writer)
    code, _, err = finished(process)
    assert (code, err) == (141, "")


def test_a_reader_of_the_first_letter_gets_no_half_answer(kitchen: Path) -> None:
    process = started("omni ask --text hello --checkpoint checkpoint -o half.wav", kitchen)
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    process.stdout = None
    code, _, err = finished(process)
    assert (code, err) == (141, "")
    assert not list(kitchen.glob("*half.wav*"))
