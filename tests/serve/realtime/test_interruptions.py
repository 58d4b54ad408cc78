"""Whenever somebody speaks up, nothing of the old answer follows."""

import pytest
import torch

from omni.engine import Engine
from serve.realtime.answering import Answering
from tests.interrupting import interrupt_often

torch.set_num_threads(1)


def test_nothing_of_an_answer_comes_after_the_voice_that_interrupts_it(engine: Engine) -> None:
    watch = interrupt_often(engine, 60, seed=0)
    assert watch.interruptions >= 60 and watch.late == []


def test_an_answer_that_went_on_would_be_noticed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answering, "stop", lambda self, reason: None)
    assert interrupt_often(engine, 20, seed=0).late
