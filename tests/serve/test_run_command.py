"""`omni-serve run` from start to stop."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosed, InvalidStatus

from serve.cli import app
from tests.paths import ROOT
from tests.realtime import Client, of, sound, types
from tests.tiny import tiny_model, tiny_processor

KEY = "correct horse battery"  # blanks and all, it is one key


def test_a_server_starts_answers_and_ends_with_come_back(tmp_path: Path) -> None:
    checkpoint, config = tmp_path / "small", tmp_path / "serve.yaml"
    tiny_model().save_pretrained(checkpoint, self_contained=True, processor=tiny_processor())
    config.write_text(f"checkpoint: {checkpoint}\nport: 1\ndrain_s: 0\nlimits: {{idle_s: 60}}\n")
    command = [sys.executable, "-m", "serve.cli", "run", "--config", str(config)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--threads", "1"], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMNI_API_KEY": KEY},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = "".join(process.stdout.readline() for _ in range(3))
        assert "model: small" in told and "1 API key\n" in told and "idle_s=60" in told
        (port,) = re.findall(r"ws://127\.0\.0\.1:(\d+)/v1/realtime", told)
        with Client(int(port), additional_headers={"Authorization": f"Bearer {KEY}"}) as client:
            content = [{"type": "input_text", "text": "How warm is it?"}]
            item = {"type": "message", "role": "user", "content": content}
            client.send("conversation.item.create", item=item)
            client.send("response.create", response={"max_output_tokens": 8})
            events = client.until("response.done")
            assert types(events)[0] == "session.created" and of(events, "response.created")
            assert sound(events)
            with pytest.raises(InvalidStatus, match="401"):
                Client(int(port), additional_headers={"Authorization": "Bearer wrong-horse"})
            process.send_signal(signal.SIGTERM)
            assert client.next()["error"]["code"] == "server_draining"
            with pytest.raises(ConnectionClosed) as caught:
                client.next()
            assert caught.value.rcvd is not None and caught.value.rcvd.code == 1012
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert KEY not in told + output + errors and "Traceback" not in errors
    assert "brought no right API key" in errors and "handshake" not in errors


def refused(*options: str) -> str:
    result = CliRunner().invoke(app, ["run", *options], env={"OMNI_API_KEY": None})
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_what_would_be_unsafe_is_refused_before_anything_is_loaded() -> None:
    assert "no API key is set" in refused("--host", "0.0.0.0")
    assert "fewer than 8" in refused("--api-key", "short")


def test_an_address_that_is_taken_is_told_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}: address already in use" in refused("--port", str(port))


def test_a_key_with_blanks_is_one_key_also_from_the_environment() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["run", "--port", port], env={"OMNI_API_KEY": KEY})
    assert "address already in use" in result.stderr  # and none "has fewer than 8 characters"


@pytest.mark.parametrize("called", [".", "../small", "inside/.."])
def test_a_checkpoint_has_its_folders_name_however_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str
) -> None:
    from serve.web import ServeSettings, model_of

    (tmp_path / "small" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "small")
    known = model_of(ServeSettings(checkpoint=called), tiny_model(), tiny_processor())
    assert known.name == "small"


def test_a_recogniser_is_found_by_its_name() -> None:
    from omni.files import UserError
    from serve.web.running import find_recogniser

    assert find_recogniser("math:sqrt")(4) == 2  # type: ignore[arg-type]
    for name in ("math", "math:nothing", "no_such_module:f", ":"):
        with pytest.raises(UserError, match="give module:function"):
            find_recogniser(name)
