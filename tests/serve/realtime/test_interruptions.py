"""Whenever somebody speaks up, nothing of the old answer follows."""

from collections.abc import Iterator

import pytest
import torch

from omni.engine import Engine
from serve.realtime.answering import Answering
from tests.interrupting import interrupt_often
from tests.talk import model, processor

torch.set_num_threads(1)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(model(), processor(), max_sessions=4) as engine:
        yield engine


def test_nothing_of_an_answer_comes_after_the_voice_that_interrupts_it(engine: Engine) -> None:
    watch = interrupt_often(engine, 60, seed=0)
    assert watch.interruptions >= 60 and watch.late == []


def test_an_answer_that_went_on_would_be_noticed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answering, "stop", lambda self, reason: None)
    assert interrupt_often(engine, 20, seed=0).late
