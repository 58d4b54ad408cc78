"""A server that speaks TLS, and what it prints of the keys that clients bring: nothing."""

import shutil
import ssl
import subprocess
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

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
            patient = {"ssl": trusted, "open_timeout": WAIT_S}
            subprotocols = ["realtime", f"openai-insecure-api-key.{offered}"]
            with closing(connect(address, subprotocols=subprotocols, **patient)) as socket:
                assert socket.subprotocol == "realtime"
                assert checked(str(socket.recv(WAIT_S)))["type"] == "session.created"
                socket.send(f'{{"type": "{offered}"}}')
        wrong = {"authorization": f"Bearer {WRONG}"}
        with pytest.raises(InvalidStatus, match="401"):
            connect(f"{address}?api_key={WRONG}", ssl=trusted, additional_headers=wrong)
        with pytest.raises(httpx.TransportError):  # no TLS
            httpx.get(f"http://localhost:{served.port}/health", headers=BEARER, timeout=WAIT_S)
        served.process.terminate()
        code, printed = served.end()
    assert code == 0
    assert not [one for one in (KEY, WRONG, short) if one in printed]
