"""The benchmark beside a busy machine: what it starts, what it counts, when it fails."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from omni.audio import save_wav
from omni.files.errors import UserError
from serve.bench import robustness as bench
from serve.bench.robustness import Asked, Robustness
from serve.cli import app
from tests.processes import PARENT, running
from tests.tiny import tiny_model, tiny_processor

ANSWER = """
import json, os, sys
with open(sys.argv[1], "a") as log: log.write(os.environ["XDG_CACHE_HOME"] + "\\n")
print(json.dumps({"timings_ms": {"total_ms": 250.0}}))
"""


def test_an_answer_is_asked_for_as_often_idle_as_busy_with_a_memory_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "the user's")
    steps: list[int] = []
    found = bench.load_robustness(
        [sys.executable, "-c", ANSWER, str(tmp_path / "log")],
        repeats=2, others=1, progress=lambda: steps.append(1),
    )  # fmt: skip
    assert len(found.idle) == len(found.busy) == 3 == len(steps) / 2
    assert all(asked.answer_s == 0.25 and asked.process_s > 0 for asked in found.busy)
    first, *memories = (tmp_path / "log").read_text().splitlines()
    assert first == "the user's"  # asked so that the disk is not measured
    assert len(set(memories[:3])) == len(set(memories[3:])) == 1 and memories[0] != memories[3]


def test_processes_are_busy_as_long_as_the_block_lasts() -> None:
    before = running(PARENT, os.getpid())
    with pytest.raises(KeyboardInterrupt), bench.busy(2):
        assert len(running(PARENT, os.getpid()) - before) == 2
        raise KeyboardInterrupt
    assert running(PARENT, os.getpid()) <= before


def test_what_never_comes_takes_for_ever_and_what_fails_is_told() -> None:
    asked = bench.ask([sys.executable, "-c", "while True: pass"], os.environ, 0.2)
    assert asked == Asked(answer_s=float("inf"), process_s=float("inf"))
    with pytest.raises(UserError, match=r"^a\.wav: no such file$"):
        bench.ask([sys.executable, "-c", "exit('error: a.wav: no such file')"], os.environ, 60)


def times(first: float, *later: float) -> list[Asked]:
    """In seconds per process; the answer is a tenth of it."""
    return [Asked(answer_s=s / 10, process_s=s) for s in (first, *later)]


def test_medians_are_compared_and_the_first_process_apart() -> None:
    found = Robustness(idle=times(8, 2, 2, 9), busy=times(12, 3, 6, 6))
    assert found.ratios() == {
        "answer": (0.2, pytest.approx(0.6), pytest.approx(3)),
        "process": (2, 6, 3),
        "first process": (8, 12, 1.5),
    }


@pytest.mark.parametrize(
    ("busy", "options", "code"),
    [
        (times(4, 3.9), [], 0),
        (times(4, 4.1), [], 1),
        (times(4.1, 1), [], 1),
        (times(4, float("inf")), [], 1),
        (times(4, 4.1), ["--limit", "5"], 0),
    ],
)
def test_above_the_limit_the_command_fails(
    busy: list[Asked], options: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Robustness(idle=times(1, 1), busy=busy)
    monkeypatch.setattr(bench, "load_robustness", lambda *_, **__: found)
    result = CliRunner().invoke(app, ["bench", "load-robustness", *options])
    assert result.exit_code == code, result.output
    assert "times as long as idle" in result.stdout


def test_a_checkpoint_is_measured(tmp_path: Path) -> None:
    checkpoint, question = tmp_path / "checkpoint", tmp_path / "question.wav"
    tiny_model().save_pretrained(checkpoint, self_contained=True, processor=tiny_processor())
    save_wav(question, np.random.default_rng(0).normal(0, 0.1, 8_000))
    options = ["--checkpoint", str(checkpoint), "--repeats", "1", "--busy", "1", "--limit", "1000"]
    result = CliRunner().invoke(app, ["bench", "load-robustness", str(question), *options])
    assert result.exit_code == 0, result.output
    assert "asked 1 times, 1 busy processes" in result.stdout
    assert sorted(tmp_path.iterdir()) == [checkpoint, question]
