"""Whatever is sent, the session answers, and each event is one that the official client takes."""

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from websockets.sync.client import connect

from omni.engine import Engine
from serve.bench import fuzz as fuzzing
from serve.realtime import Limits
from serve.web import ServeSettings
from serve.web.app import create_app
from tests.realtime import checked, loud, model_info, served
from tests.talk import SHORT, model, processor

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    settings = ServeSettings(limits=Limits(messages_per_s=100_000))
    with Engine(model(), processor(), max_sessions=4) as engine:
        app = create_app(settings, engine, model_info(SHORT), make_voice=lambda: loud)
        with served(app) as port:
            yield port


@pytest.mark.parametrize("seed", [0, 1])
def test_no_message_ends_a_session(port: int, seed: int) -> None:
    found = fuzzing.fuzz(
        lambda: connect(f"ws://127.0.0.1:{port}/v1/realtime", max_size=None),
        400, seed, check=checked,
    )  # fmt: skip
    assert (found.lost, found.sent) == ([], 400)
    assert "server_error" not in found.errors
    assert len(found.errors) > 8 and len(found.events) > 8


def test_a_seed_says_which_messages_are_sent() -> None:
    first, again = (list(islice(fuzzing.messages(3), 50)) for _ in range(2))
    assert first == again != list(islice(fuzzing.messages(4), 50))


def test_a_session_that_is_lost_is_noted(port: int) -> None:
    def lost() -> object:
        socket = connect(f"ws://127.0.0.1:{port}/v1/realtime", max_size=None)
        socket.close()
        return socket

    found = fuzzing.fuzz(lost, 20, 0)  # type: ignore[arg-type]
    assert len(found.lost) == 10 and "ConnectionClosed" in found.lost[0]
