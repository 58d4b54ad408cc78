"""A full disk is told in one line, and nothing half written is left."""

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from omni.files.errors import one_line
from omni.files.folders import write_tensors
from tests.commands import finished, started
from tests.published import ENCODER

FULL = "/dev/full"


def limited(size: int) -> Callable[[], None]:
    """For the process that is started: no file may grow beyond `size` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(
    "command",
    [
        "omni ask q.wav --checkpoint checkpoint -o out/a.wav",
        f"omni convert whisper {ENCODER} -o out/encoder",
        "omni-data convert records.jsonl -o out/records.parquet --embed-audio",
        "omni-train lm records.jsonl --recipe nano -o out/lm --max-steps 1",
    ],
)
def test_a_full_disk_is_told_in_one_line(command: str, kitchen: Path) -> None:
    (kitchen / "out").mkdir(exist_ok=True)
    process = started(command, kitchen, preexec_fn=limited(2000))
    code, _, err = finished(process)
    assert code == 2, err
    assert err.splitlines()[-1].startswith("error: ") and "free some space" in err
    assert "Traceback" not in err
    if not command.startswith("omni-train"):  # that goes on from its whole checkpoints
        assert list((kitchen / "out").iterdir()) == []


@pytest.mark.parametrize("option", ["info", "--help", "--version"])
def test_what_is_printed_onto_a_full_disk_is_an_error_too(option: str, kitchen: Path) -> None:
    with open(FULL, "w") as full:
        code, _, err = finished(started(f"omni {option}", kitchen, stdout=full))
    assert code == 2
    assert err.startswith("error: output: no space left on device; free some space, or ")
    assert err.count("\n") == 1


def test_weights_that_could_not_be_written_are_told(tmp_path: Path) -> None:
    """Both are written by code that is not Python, with errors of its own."""
    tensor = {"a": torch.zeros(10_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for write in (write_tensors, lambda path, value: torch.save(value, path)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        try:
            with pytest.raises(Exception) as caught:
                write(tmp_path / "weights", tensor)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "free some space" in (one_line(caught.value) or "")
    assert one_line(RuntimeError("a mistake of ours")) is None
