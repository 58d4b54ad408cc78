"""Where an engine and a command have steps compiled; what that does, test_compiling tells."""

import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omni.cli import app
from omni.engine import Engine
from tests.talk import model, processor
from tests.tiny import tiny_model, tiny_processor


def test_an_engine_compiles_on_the_thread_that_will_step(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []

    def noted(model: object, *, sessions: int, progress: object) -> None:
        told.append((threading.current_thread().name, sessions))

    monkeypatch.setattr("omni.engine.sessions.compile_steps", noted)
    with Engine(model(), processor(), max_sessions=3) as engine:
        engine.compile()
        assert told == [("omni-model", 3)]


def test_ask_compiles_before_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tiny_model().save_pretrained(tmp_path / "c", self_contained=True, processor=tiny_processor())
    monkeypatch.setattr(
        "omni.session.compile_steps",
        lambda model, *, progress: told.append(type(model).__name__),
    )
    words = ["ask", "--text", "Why?", "--text-only", "--threads", "1", "--max-new-tokens", "2"]
    for options, expected in ((["--compile"], 1), ([], 1)):
        done = CliRunner().invoke(app, [*words, "--checkpoint", str(tmp_path / "c"), *options])
        assert done.exit_code == 0, done.output
        assert len(told) == expected
