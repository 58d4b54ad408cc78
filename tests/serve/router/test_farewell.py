"""The last word: to who speaks, to who reads nothing, and in the middle of a frame."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.sync.client import ClientConnection, connect

from serve.router.farewell import LINGER_S, close_restarting

MESSAGE = Frame(Opcode.TEXT, b'{"type": "response.created"}').serialize(mask=False)


def greet(door: socket.socket, taken: list[socket.socket]) -> None:
    """A server's part of the handshake; from then on it reads nothing."""
    connection, _ = door.accept()
    server = ServerProtocol()
    while not (events := server.events_received()):
        server.receive_data(connection.recv(65_536))
    (request,) = events
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    connection.sendall(b"".join(server.data_to_send()))
    taken.append(connection)


@contextmanager
def met() -> Iterator[tuple[ClientConnection, socket.socket]]:
    """A client, and the connection of a server that says nothing any more."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        taken: list[socket.socket] = []
        greeting = threading.Thread(target=greet, args=(door, taken))
        greeting.start()
        with connect(f"ws://127.0.0.1:{door.getsockname()[1]}") as client:
            greeting.join()
            yield client, taken[0]


def last_of(client: ClientConnection) -> tuple[list[str | bytes], int]:
    messages = []
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            messages.append(client.recv(timeout=10))
    return messages, 1006 if caught.value.rcvd is None else caught.value.rcvd.code


def test_a_client_that_has_said_what_nobody_read_still_hears_the_last_word() -> None:
    with met() as (client, connection):
        client.send("x" * 100_000)
        connection.sendall(MESSAGE)
        asyncio.run(close_restarting(connection))
        assert last_of(client) == (['{"type": "response.created"}'], 1012)


@pytest.mark.parametrize("missing", [1, 2, 4, 5, len(MESSAGE) - 3])
def test_within_a_frame_the_last_word_is_no_part_of_a_message(missing: int) -> None:
    with met() as (client, connection):
        connection.sendall(MESSAGE + MESSAGE[:-missing])
        asyncio.run(close_restarting(connection))
        messages, code = last_of(client)
        assert messages == ['{"type": "response.created"}'] and code == 1006


def test_who_takes_nothing_is_not_waited_for_long() -> None:
    with met() as (_, connection):
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                connection.sendall(bytes(65_536))
        began = time.monotonic()
        asyncio.run(close_restarting(connection))
        assert time.monotonic() - began < LINGER_S + 1
        assert connection.fileno() == -1
