"""Who is there is not taken for gone, however far behind we are with reading; who is gone, is."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from websockets.exceptions import ConnectionClosed

from omni.engine import Engine
from serve.realtime import Limits
from serve.web.app import create_app
from serve.web.settings import ServeSettings
from serve.web.sockets import SessionSocket
from tests.realtime import Client, loud, model_info, of, served
from tests.talk import SHORT, model, processor

torch.set_num_threads(1)
CLEARED = "input_audio_buffer.cleared"


@contextmanager
def pinging_server(limits: Limits) -> Iterator[int]:
    """A real server that pings often, and waits for a pong for 0.5 s; its port."""
    pings = {"ws": SessionSocket, "ws_ping_interval": 0.1, "ws_ping_timeout": 0.5}
    with Engine(model(), processor(), max_sessions=1) as engine:
        app = create_app(
            ServeSettings(limits=limits), engine, model_info(SHORT), make_voice=lambda: loud
        )
        with served(app, **pings) as port:
            yield port


def test_who_sends_too_fast_is_not_closed() -> None:
    with pinging_server(Limits(messages_per_s=20)) as port, Client(port) as client:
        for _ in range(160):  # of which 100 may come at once: it takes 3 s to read the others
            client.send("input_audio_buffer.clear")
        told = [client.next() for _ in range(2 + 160 + 1)]
        assert len(of(told, CLEARED)) == 160
        (error,) = of(told, "error")
        assert error["error"]["code"] == "rate_limit_exceeded"


def test_who_does_not_answer_a_ping_and_sends_nothing_is_closed() -> None:
    with pinging_server(Limits()) as port, Client(port) as client:
        client.until("conversation.created")
        # From here on it hears no ping, and so answers none.
        client.socket.protocol.recv_frame = lambda frame: None  # type: ignore[method-assign]
        with pytest.raises(ConnectionClosed):
            client.socket.recv(timeout=10)
