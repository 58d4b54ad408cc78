"""Where a server listens: what clients that connect there get."""

import socket
from contextlib import closing

import pytest

from serve.web import ServeSettings, bind


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_messages_are_not_held_back(host: str) -> None:
    with closing(bind(ServeSettings(host=host, port=0))) as door:
        door.listen()
        with socket.create_connection(door.getsockname()[:2], timeout=10):
            connection, _ = door.accept()
            with connection:
                # Else the second of two waits until the client says that it has the first.
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_that_is_taken_is_named() -> None:
    with closing(bind(ServeSettings(port=0))) as door:
        door.listen()
        port = door.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
            bind(ServeSettings(port=port))
