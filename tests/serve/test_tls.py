"""A server that speaks TLS, and what it prints of the keys that clients bring: nothing."""

import shutil
import socket
import ssl
import subprocess
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.realtime import WAIT_S, checked
from tests.serving import BEARER, KEY, running

WRONG = "battery-staple"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_over_tls_sessions_open_and_no_key_is_printed(tmp_path: Path) -> None:
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    trusted = ssl.create_default_context(cafile=certificate)
    options = ("--ssl-certificate", certificate, "--ssl-key", key, "--drain-seconds", "0")
    with running(tmp_path, *options) as served:
        assert f"wss://127.0.0.1:{served.port}" in served.told
        web = f"https://localhost:{served.port}"
        secrets = f"{web}/v1/realtime/client_secrets"
        short = httpx.post(secrets, headers=BEARER, verify=trusted, timeout=WAIT_S).json()["value"]
        address = f"wss://localhost:{served.port}/v1/realtime"
        for offered in (KEY, short):
            names = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{offered}")]
            opened = connect(address, subprotocols=names, ssl=trusted, open_timeout=WAIT_S)
            with closing(opened) as session:
                assert session.subprotocol == "realtime"
                assert checked(str(session.recv(WAIT_S)))["type"] == "session.created"
                session.send(f'{{"type": "{offered}"}}')
        with (
            socket.create_connection(("127.0.0.1", served.port)) as plain,
            trusted.wrap_socket(plain, server_hostname="localhost") as encrypted,
        ):
            encrypted.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert encrypted.recv(1)  # what the handshake sends behind itself has come by now
            assert encrypted.version() == "TLSv1.3"
            # Clients with a thread that reads and another that writes lose requests over one.
            assert encrypted.session is not None and not encrypted.session.has_ticket
        wrong = {"authorization": f"Bearer {WRONG}"}
        with pytest.raises(InvalidStatus, match="401"):
            connect(f"{address}?api_key={WRONG}", ssl=trusted, additional_headers=wrong)
        with pytest.raises(httpx.TransportError):  # no TLS
            httpx.get(f"http://localhost:{served.port}/health", headers=BEARER, timeout=WAIT_S)
        served.process.terminate()
        code, printed = served.end()
    assert code == 0
    assert not [one for one in (KEY, WRONG, short) if one in printed]
