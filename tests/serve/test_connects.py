"""Clients that come and go leave nothing behind."""

import gc
from collections.abc import Iterator

import pytest
import torch
from websockets.sync.client import connect

from omni.engine import Engine, EngineSession
from serve.bench.connects import Grown, come_and_go
from serve.realtime import Connection
from serve.realtime.talk import Talk
from serve.web import ServeSettings
from serve.web.app import create_app
from tests.realtime import model_info, served
from tests.talk import SHORT, model, processor

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Engine(model(), processor(), max_sessions=4) as engine:
        app = create_app(ServeSettings(), engine, model_info(SHORT))
        with served(app) as port:
            yield port


def alive() -> list[object]:
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, (Connection, Talk, EngineSession))]


def test_clients_that_come_and_go_leave_nothing_behind(port: int) -> None:
    before = len(alive())
    counted: list[int] = []

    def open_now() -> float:
        counted.append(len(alive()))
        return 100.0

    grown = come_and_go(lambda: connect(f"ws://127.0.0.1:{port}/v1/realtime"), open_now, 40)
    assert grown.share == 0 and len(counted) == 3
    assert max(counted) <= before + 2  # the last one may just be leaving


def test_growth_is_told_as_a_share() -> None:
    assert Grown(200.0, 210.0).share == pytest.approx(0.05)
