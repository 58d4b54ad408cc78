"""Where a server listens: what clients that connect there get."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from omni.files import UserError
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


def test_tls_files_that_can_not_be_used_are_named_before_anything_is_loaded(tmp_path: Path) -> None:
    missing, wrong = tmp_path / "missing.pem", tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for file, why in ((missing, "No such file"), (wrong, "PEM")):
        settings = ServeSettings(port=0, ssl_certificate=str(file), ssl_key=str(wrong))
        with pytest.raises(UserError, match=f"ssl_certificate={file}, ssl_key={wrong}: .*{why}"):
            bind(settings)
