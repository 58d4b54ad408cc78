"""Interrupting a server: what is measured of it, and what is not taken for a measurement."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from omni.engine import Engine
from omni.session import SessionConfig
from serve.bench.interrupts import Interrupted, measure, onset_s
from serve.web import ServeSettings
from serve.web.app import create_app
from tests.realtime import loud, model_info, served
from tests.talk import model, processor
from tests.tiny import question

torch.set_num_threads(1)
LONG = SessionConfig(max_new_tokens=400)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Engine(model(), processor(), max_sessions=3) as engine:
        app = create_app(ServeSettings(), engine, model_info(LONG), make_voice=lambda: loud)
        with served(app) as port:
            yield f"ws://127.0.0.1:{port}/v1/realtime"


def test_a_voice_begins_where_it_is_loud() -> None:
    samples = np.concatenate([np.full(800, 0.005), np.full(800, 0.5)])
    assert onset_s(samples, 16_000) == pytest.approx(0.05)


@pytest.mark.parametrize("others", [0, 2])
def test_answers_are_interrupted_by_voice_and_by_message_beside_others(
    url: str, others: int
) -> None:
    found = asyncio.run(measure(url, [question(0.6)], others=others, times=2))
    assert len(found.heard) == 2 and all(0 < seconds < 10 for seconds in found.heard)
    assert len(found.cancelled) + found.too_late == 2
    assert all(0 < seconds < 10 for seconds in found.cancelled)


def test_times_are_told_in_milliseconds() -> None:
    found = Interrupted(heard=[0.1, 0.1], cancelled=[0.02])
    _, voice, message = found.cells()
    assert voice[1:] == ["2", "100", "100", "100"] and message[1:] == ["1", "20", "20", "20"]
    assert Interrupted().cells()[1][1:] == ["0"]
