"""What is served over HTTP, and who gets a session of the WebSocket."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import torch
from openai.types.realtime import ClientSecretCreateResponse
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from omni.engine import Engine
from serve.realtime import Limits
from serve.web.app import create_app
from serve.web.draining import Draining
from serve.web.settings import ServeSettings
from tests.realtime import checked, loud, model_info, sound
from tests.talk import SHORT, model, processor

torch.set_num_threads(1)
KEY = "correct-horse"
BEARER = {"authorization": f"Bearer {KEY}"}
SOCKET = "ws://localhost:8000/v1/realtime"
SECRETS = "/v1/realtime/client_secrets"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(model(), processor(), max_sessions=2) as engine:
        yield engine


def client(engine: Engine, draining: Draining | None = None, **settings: object) -> TestClient:
    app = create_app(
        ServeSettings(**settings),  # type: ignore[arg-type]
        engine, model_info(SHORT), make_voice=lambda: loud, now=lambda: 1_000.0,
        draining=draining,
    )  # fmt: skip
    return TestClient(app, base_url="http://localhost:8000")


def test_a_server_that_takes_leave_sends_questions_elsewhere(engine: Engine) -> None:
    draining = Draining()
    web = client(engine, draining)
    question = {"model": "tiny", "messages": [{"role": "user", "content": "Who?"}]}
    assert web.post("/v1/chat/completions", json=question).status_code == 200
    draining.begun = True
    refused = web.post("/v1/chat/completions", json=question)
    assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
    assert refused.json()["error"]["code"] == "server_draining"
    with web.websocket_connect(SOCKET) as socket:
        assert checked(socket.receive_text())["error"]["code"] == "server_draining"


def test_health_readiness_models_and_voices_are_told(engine: Engine) -> None:
    web = client(engine)
    assert web.get("/health").json() == {"status": "ok"}
    assert web.get("/ready").json() == {"ready": True, "sessions": 0, "max_sessions": 2}
    assert [one["id"] for one in web.get("/v1/models").json()["data"]] == ["tiny"]
    assert [one["id"] for one in web.get("/v1/voices").json()["data"]] == ["default"]
    assert web.get("/v1/models/tiny").json() == web.get("/v1/models").json()["data"][0]
    other = web.get("/v1/models/gpt/4")
    assert other.status_code == 404 and other.json()["error"]["code"] == "model_not_found"


def test_a_page_that_is_allowed_may_read_the_answers(engine: Engine) -> None:
    page = "https://page.example"
    web = client(engine, api_keys=(KEY,), allowed_origins=(f"{page}/",))
    asks = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    chat = "/v1/chat/completions"
    asked = web.options(chat, headers={"origin": page} | asks)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-headers"] == "authorization, content-type"
    question = {"model": "tiny", "messages": [{"role": "user", "content": "Who?"}]}
    for key, status in ((BEARER, 200), ({}, 401)):
        told = web.post(chat, json=question, headers={"origin": page} | key)
        assert told.status_code == status
        assert told.headers["access-control-allow-origin"] == page
    stranger = web.options(chat, headers={"origin": "https://evil.example"} | asks)
    assert stranger.status_code == 403
    assert "access-control-allow-origin" not in stranger.headers


def test_who_is_full_is_not_ready_and_says_try_again(engine: Engine) -> None:
    web = client(engine)
    with ExitStack() as stack:
        for _ in range(2):
            socket = stack.enter_context(web.websocket_connect(SOCKET))
            assert checked(socket.receive_text())["type"] == "session.created"
        assert web.get("/ready").status_code == 503
        with web.websocket_connect(SOCKET) as third:
            assert checked(third.receive_text())["error"]["code"] == "server_full"
            with pytest.raises(WebSocketDisconnect) as caught:
                third.receive_text()
            assert caught.value.code == 1013
    assert engine.sessions == 0
    assert web.get("/ready").status_code == 200


def test_metrics_count_what_happens(engine: Engine) -> None:
    web = client(engine)

    def sessions() -> str:
        lines = web.get("/metrics").text.splitlines()
        return next(line for line in lines if line.startswith("omni_sessions "))

    assert sessions() == "omni_sessions 0.0"
    with web.websocket_connect(SOCKET) as socket:
        socket.receive_text()
        assert sessions() == "omni_sessions 1.0"


def test_metrics_count_the_chunks_of_answers_and_how_long_they_sound(engine: Engine) -> None:
    web = client(engine)

    def counted(name: str) -> float:
        (line,) = (ln for ln in web.get("/metrics").text.splitlines() if ln.startswith(name + " "))
        return float(line.split()[1])

    before = counted("omni_chunks_total"), counted("omni_sound_seconds_total")
    with web.websocket_connect(SOCKET) as socket:
        part = {"type": "input_text", "text": "What is two and two?"}
        item = {"type": "message", "role": "user", "content": [part]}
        socket.send_text(json.dumps({"type": "conversation.item.create", "item": item}))
        socket.send_text(json.dumps({"type": "response.create"}))
        told = [checked(socket.receive_text())]
        while told[-1]["type"] != "response.done":
            told.append(checked(socket.receive_text()))
    seconds = len(sound(told)) / 2 / 24_000
    assert counted("omni_chunks_total") > before[0]
    assert counted("omni_sound_seconds_total") - before[1] == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("path", ["/metrics", "/v1/models", "/v1/voices"])
def test_with_a_key_set_nobody_comes_in_without(engine: Engine, path: str) -> None:
    web = client(engine, api_keys=(KEY,))
    assert web.get(path).status_code == 401
    assert web.get(path, headers=BEARER).status_code == 200
    assert web.get("/health").status_code == web.get("/ready").status_code == 200


def test_a_socket_without_a_key_is_refused_before_it_is_one(engine: Engine) -> None:
    web = client(engine, api_keys=(KEY,))
    with pytest.raises(WebSocketDenialResponse) as caught, web.websocket_connect(SOCKET):
        pass
    assert caught.value.status_code == 401 and engine.sessions == 0
    with web.websocket_connect(SOCKET, headers=BEARER) as socket:
        assert checked(socket.receive_text())["type"] == "session.created"


def test_the_log_says_why_clients_were_turned_away_and_names_no_key(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    web = client(engine, api_keys=(KEY,))
    wrong = {"authorization": "Bearer wrong-horse"}
    with caplog.at_level(logging.INFO, "serve"):
        web.get("/v1/models", headers=wrong)
        with pytest.raises(WebSocketDenialResponse), web.websocket_connect(SOCKET, headers=wrong):
            pass
        with ExitStack() as stack:
            for _ in range(3):
                one = web.websocket_connect(f"{SOCKET}?model=gpt-realtime", headers=BEARER)
                stack.enter_context(one).receive_text()
    assert caplog.text.count("brought no right API key") == 2
    assert "2 of 2 sessions are taken" in caplog.text
    assert "'gpt-realtime' was asked for; 'tiny' answers" in caplog.text
    assert "horse" not in caplog.text


def test_a_browser_is_given_the_subprotocol_and_never_its_key(engine: Engine) -> None:
    web = client(engine, api_keys=(KEY,))
    offered = ["realtime", f"openai-insecure-api-key.{KEY}"]
    with web.websocket_connect(SOCKET, subprotocols=offered) as socket:
        assert socket.accepted_subprotocol == "realtime"


def test_a_short_lived_key_opens_a_session_with_its_settings(engine: Engine) -> None:
    web = client(engine, api_keys=(KEY,))
    wanted = {
        "expires_after": {"anchor": "created_at", "seconds": 60},
        "session": {"type": "realtime", "instructions": "Be kind."},
    }
    assert web.post(SECRETS, json=wanted).status_code == 401
    made = web.post(SECRETS, json=wanted, headers=BEARER).json()
    ClientSecretCreateResponse.model_validate(made)
    assert made["expires_at"] == 1_060 and made["session"]["instructions"] == "Be kind."
    short = {"authorization": f"Bearer {made['value']}"}
    with web.websocket_connect(SOCKET, headers=short) as socket:
        session = checked(socket.receive_text())["session"]
        assert session["instructions"] == "Be kind."
    assert web.post(SECRETS, headers=short).status_code == 403


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"expires_after": {"seconds": 5}}, 422),
        ({"session": {"audio": {"output": {"speed": 9}}}}, 400),
        ({"session": {"instructions": "Say <speech>."}}, 400),
        ({}, 200),
    ],
)
def test_a_short_lived_key_is_for_what_can_be(
    engine: Engine, wanted: dict[str, object], status: int
) -> None:
    assert client(engine).post(SECRETS, json=wanted).status_code == status


def test_no_body_is_a_short_lived_key_as_usual(engine: Engine) -> None:
    made = client(engine).post(SECRETS).json()
    assert made["expires_at"] == 1_600


def test_the_documents_name_everything(engine: Engine) -> None:
    web = client(engine)
    assert {"/health", "/v1/models", SECRETS} <= set(web.get("/openapi.json").json()["paths"])
    document = web.get("/asyncapi.json").json()
    messages = document["components"]["messages"]
    assert {"response.create", "response.output_audio.delta", "error"} <= set(messages)
    for message in messages.values():
        kind = message["payload"]["$ref"].rpartition("/")[2]
        assert document["components"]["schemas"][kind]["properties"]["type"]["const"]
    for operation in document["operations"].values():
        names = {one["$ref"].rpartition("/")[2] for one in operation["messages"]}
        assert names <= set(document["channels"]["realtime"]["messages"])


# Limits of time, each with its event and close code


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(session_s=0.3), "session_expired"),
        (Limits(idle_s=0.3), "session_idle"),
    ],
)
def test_a_session_ends_with_a_reason(engine: Engine, limits: Limits, code: str) -> None:
    with client(engine, limits=limits).websocket_connect(SOCKET) as socket:
        told = checked(socket.receive_text())
        while told["type"] != "error":
            told = checked(socket.receive_text())
        assert told["error"]["code"] == code
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
        assert (caught.value.code, caught.value.reason) == (1000, code)
    assert engine.sessions == 0


def told_codes(engine: Engine, send: list[str | bytes], limits: Limits, count: int) -> list[str]:
    with client(engine, limits=limits).websocket_connect(SOCKET) as socket:
        for message in send:
            if isinstance(message, bytes):
                socket.send_bytes(message)
            else:
                socket.send_text(message)
        events = [checked(socket.receive_text()) for _ in range(2 + count)]
        return [event["error"]["code"] if "error" in event else event["type"] for event in events]


def test_binary_and_large_messages_are_refused_and_the_session_goes_on(engine: Engine) -> None:
    clear = '{"type": "input_audio_buffer.clear"}'
    told = told_codes(engine, [b"x", "x" * 2_000_000, clear], Limits(), 3)
    assert told[2:] == ["binary_message", "message_too_large", "input_audio_buffer.cleared"]


def test_who_sends_too_fast_is_slowed_down_told_once_and_loses_nothing(engine: Engine) -> None:
    clear = '{"type": "input_audio_buffer.clear"}'
    told = told_codes(engine, [clear] * 80, Limits(messages_per_s=10), 81)
    assert told.count("rate_limit_exceeded") == 1
    assert told.count("input_audio_buffer.cleared") == 80


def test_our_own_mistake_costs_one_message_and_not_the_session(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear = '{"type": "input_audio_buffer.clear"}'
    calls: list[int] = []

    def failing(*_: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("secret")

    monkeypatch.setattr("serve.realtime.hearing.Hearing.clear", failing)
    assert told_codes(engine, [clear, clear], Limits(), 2)[2:] == [
        "server_error", "input_audio_buffer.cleared",
    ]  # fmt: skip
