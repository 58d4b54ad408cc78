"""Connections that another process has accepted are served like any other, and are counted."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import torch
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from omni.engine import Engine
from serve.router.handing import Handed, Replica
from serve.web.app import create_app
from serve.web.draining import Draining
from serve.web.server import Server
from serve.web.settings import ServeSettings
from serve.web.sockets import SessionSocket
from tests.realtime import WAIT_S, checked, loud, model_info
from tests.talk import SHORT, model, processor

torch.set_num_threads(1)


class Handing:
    """A supervisor with one replica, whose process is this one."""

    def __init__(self, engine: Engine) -> None:
        ours, theirs = socket.socketpair()
        self.replica: Replica
        self.door = socket.create_server(("127.0.0.1", 0))
        self.door.setblocking(False)
        self.port = self.door.getsockname()[1]
        self.lives = True
        self.leave = threading.Event()
        self._pipe = ours
        self.draining = Draining()
        app = create_app(
            ServeSettings(),
            engine,
            model_info(SHORT),
            make_voice=lambda: loud,
            draining=self.draining,
        )
        config = uvicorn.Config(app, log_level="error", ws=SessionSocket)
        self.server = Server(
            config, self.draining, drain_s=WAIT_S, alive=lambda: self.lives, started=lambda: None,
            source=Handed(theirs, ["what is served"]),
        )  # fmt: skip
        self.threads = [
            threading.Thread(target=self.server.run),
            threading.Thread(target=lambda: asyncio.run(self._supervise())),
        ]

    async def _supervise(self) -> None:
        self.replica = Replica(self._pipe, lambda: None)
        while not self.replica.ended.is_set() and not self.leave.is_set():
            try:
                connection, _ = self.door.accept()
            except BlockingIOError:
                await asyncio.sleep(0.01)
                continue
            with connection:
                assert self.replica.hand(connection)
        if self.leave.is_set():
            asyncio.get_running_loop().remove_reader(self._pipe)
            self._pipe.close()
            for connection in self.replica.bereaved():  # as the system does for who has gone
                connection.close()


@pytest.fixture
def handing() -> Iterator[Handing]:
    with Engine(model(), processor(), max_sessions=2) as engine:
        handing = Handing(engine)
        for thread in handing.threads:
            thread.start()
        yield handing
        handing.server.should_exit = True
        for thread in handing.threads:
            thread.join(WAIT_S)
        handing.door.close()


def session(port: int) -> ClientConnection:
    socket = connect(f"ws://127.0.0.1:{port}/v1/realtime")
    assert checked(str(socket.recv(WAIT_S)))["type"] == "session.created"
    return socket


def wait_for(sessions: int, load: int, replica: Replica) -> None:
    ends = time.monotonic() + WAIT_S
    while (replica.report.sessions, replica.load) != (sessions, load):
        assert time.monotonic() < ends, replica.report
        time.sleep(0.01)


def test_what_is_handed_over_is_served_and_counted(handing: Handing) -> None:
    assert httpx.get(f"http://127.0.0.1:{handing.port}/health").json() == {"status": "ok"}
    wait_for(0, 0, handing.replica)
    with session(handing.port), session(handing.port):
        wait_for(2, 2, handing.replica)
    wait_for(0, 0, handing.replica)
    assert handing.replica.report.taken == 3
    assert handing.replica.report.told == ["what is served"]


def test_a_session_is_held_by_the_supervisor_as_long_as_it_lasts_and_no_longer(
    handing: Handing,
) -> None:
    with httpx.Client() as other:  # whose connection stays open, and is no session
        assert other.get(f"http://127.0.0.1:{handing.port}/health").status_code == 200
        client = session(handing.port)
        wait_for(1, 2, handing.replica)
        assert handing.replica.held == 1
        began = time.monotonic()
        client.close()
        # The server's end is closed too: the client has not waited for it in vain.
        assert time.monotonic() - began < client.close_timeout / 2
        wait_for(0, 1, handing.replica)
        assert handing.replica.held == 0


def test_a_server_that_ends_by_itself_leaves_no_session_to_the_supervisor(handing: Handing) -> None:
    with session(handing.port):
        wait_for(1, 1, handing.replica)
        assert handing.replica.held == 1
        handing.draining.end_all = lambda: None  # one that does not end in time
        handing.server.should_exit = True
        for thread in handing.threads:
            thread.join(WAIT_S)
    assert handing.replica.ended.is_set() and handing.replica.bereaved() == []


def test_a_server_whose_model_has_died_ends_and_its_sessions_come_back(handing: Handing) -> None:
    with session(handing.port) as client:
        handing.lives = False
        told = []
        with pytest.raises(ConnectionClosed):
            while True:
                told.append(checked(str(client.recv(WAIT_S))))
        assert told[-1]["error"]["code"] == "server_draining"
        assert client.close_code == 1012
    for thread in handing.threads:
        thread.join(WAIT_S)
    assert handing.server.failed and handing.replica.ended.is_set()


def test_a_server_whose_supervisor_has_gone_lets_its_sessions_finish_and_ends(
    handing: Handing,
) -> None:
    with session(handing.port) as client:
        handing.leave.set()
        while not handing.draining.begun:
            time.sleep(0.01)
        client.send('{"type": "input_audio_buffer.clear"}')
        assert checked(str(client.recv(WAIT_S)))["type"] == "conversation.created"
        assert checked(str(client.recv(WAIT_S)))["type"] == "input_audio_buffer.cleared"
    handing.threads[0].join(WAIT_S)
    assert not handing.threads[0].is_alive() and not handing.server.failed
