"""Requests over HTTP: what is refused with which status, and what the document says."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from omni.engine import Engine
from serve.chat import answering
from serve.realtime import Limits
from serve.web.app import create_app
from serve.web.settings import ServeSettings
from tests.chat import file_of, spoken, user
from tests.realtime import loud, model_info, silence
from tests.talk import SHORT, model, processor
from tests.tiny import question

torch.set_num_threads(1)
KEY = "correct-horse"
BEARER = {"authorization": f"Bearer {KEY}"}
PATH = "/v1/chat/completions"
PLAIN = {"model": "tiny", "messages": [user("Hello")]}


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(model(), processor(), max_sessions=2) as engine:
        yield engine


def client(engine: Engine, *, raises: bool = True, **settings: Any) -> TestClient:
    app = create_app(
        ServeSettings(**settings), engine, model_info(SHORT), make_voice=lambda: loud,
        now=lambda: 1_000.0,
    )  # fmt: skip
    return TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=raises)


def error_of(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_a_question_is_answered_and_its_place_given_back(engine: Engine) -> None:
    web = client(engine)
    for _ in range(4):  # of two places
        answer = web.post(PATH, json=PLAIN).json()
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length" and choice["message"]["audio"] is None
    assert (answer["created"], answer["model"]) == (1_000, "tiny")
    usage = answer["usage"]
    assert usage["completion_tokens"] == SHORT.max_new_tokens
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert engine.sessions == 0


def test_the_key_is_looked_at_before_the_request(engine: Engine) -> None:
    web = client(engine, api_keys=(KEY,))
    error = error_of(web.post(PATH, content=b"{"), 401)
    assert error["code"] == "invalid_api_key"
    assert web.post(PATH, json=PLAIN, headers=BEARER).status_code == 200


def test_a_short_lived_key_is_for_the_socket_alone(engine: Engine) -> None:
    web = client(engine, api_keys=(KEY,))
    made = web.post("/v1/realtime/client_secrets", headers=BEARER).json()
    short = {"authorization": f"Bearer {made['value']}"}
    assert "/v1/realtime" in error_of(web.post(PATH, json=PLAIN, headers=short), 403)["message"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b"", 400, "invalid_json"),
        (json.dumps(PLAIN | {"x": json.loads("[" * 40 + "]" * 40)}), 400, "too_deep"),
        (b'{"x": ' + b"[" * 100_000, 400, "invalid_json"),
        (json.dumps(PLAIN | {"model": "gpt-audio"}), 404, "model_not_found"),
        (json.dumps(PLAIN | {"n": 3}), 400, "invalid_value"),
        (json.dumps(PLAIN | {"messages": [user("a")] * 9}), 400, "conversation_full"),
        (json.dumps(PLAIN | {"messages": [user("x" * 60_000)] * 2}), 400, "text_too_long"),
        (json.dumps(PLAIN | {"user": "x" * 300_000}), 413, "request_too_large"),
        (
            json.dumps(PLAIN | {"messages": [user(spoken(file_of(silence(0.5))))]}),
            400,
            "question_refused",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_refused_has_its_status_and_code(
    engine: Engine, body: bytes | str, status: int, code: str, stream: bool
) -> None:
    limits = Limits(items=8, request_mib=0.2, message_mib=0.1)
    if stream and isinstance(body, str):
        body = body.replace('"model"', '"stream": true, "model"', 1)
    response = client(engine, limits=limits).post(PATH, content=body)
    error = error_of(response, status)
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    assert engine.sessions == 0


def test_who_is_full_says_when_to_ask_again(engine: Engine) -> None:
    web = client(engine)
    taken = [engine.open() for _ in range(2)]
    response = web.post(PATH, json=PLAIN)
    assert error_of(response, 503)["type"] == "server_error"
    assert float(response.headers["retry-after"]) > 0
    for session in taken:
        session.close()
    assert web.post(PATH, json=PLAIN).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_fails_is_told_without_its_reasons(
    engine: Engine, stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("secret of the house")

    web = client(engine)
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(engine.model.language_model, "forward", fails)
        response = web.post(PATH, json=PLAIN | {"stream": stream})
    assert error_of(response, 500)["code"] == "response_failed"
    assert "secret" not in response.text and "secret of the house" in caplog.text
    assert web.post(PATH, json=PLAIN).status_code == 200


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_stream_that_fails_in_the_middle_tells_it_and_ends(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, steps = answering.Answer._piece, 0

    async def breaks(self: answering.Answer, *args: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise answering.ApiError(500, "response_failed", "broken")
        await original(self, *args)

    monkeypatch.setattr(answering.Answer, "_piece", breaks)
    response = client(engine).post(PATH, json=PLAIN | {"stream": True})
    *pieces, last = events(response.text)
    assert response.status_code == 200 and "choices" in pieces[0]
    assert last["error"]["code"] == "response_failed"
    assert engine.sessions == 0


def test_our_own_mistake_is_an_error_of_the_same_shape(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.chat.routes.read_object", lambda *_: 1 / 0)
    error = error_of(client(engine, raises=False).post(PATH, json=PLAIN), 500)
    assert error["type"] == "server_error" and "division" not in error["message"]


@pytest.mark.parametrize("method", ["get", "put"])
def test_other_methods_and_places_have_errors_of_the_same_shape(
    engine: Engine, method: str
) -> None:
    web = client(engine)
    assert error_of(getattr(web, method)(PATH), 405)["code"] == "method_not_allowed"
    assert error_of(getattr(web, method)("/v1/nothing"), 404)["code"] == "not_found"


def test_a_stream_in_sound_joined_is_the_whole(engine: Engine) -> None:
    web = client(engine)
    recording = spoken(file_of(question()))
    audio = {"modalities": ["text", "audio"], "audio": {"voice": {"id": "v"}, "format": "pcm16"}}
    asked = {"model": "tiny", "messages": [user(recording)]} | audio
    (choice,) = web.post(PATH, json=asked).json()["choices"]
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    *pieces, last, end = events(web.post(PATH, json=asked | usage).text)
    assert end == "[DONE]" and last["choices"] == [] and last["usage"]["total_tokens"] > 0
    deltas = [piece["choices"][0]["delta"].get("audio", {}) for piece in pieces]
    whole = choice["message"]["audio"]
    assert "".join(delta.get("transcript", "") for delta in deltas) == whole["transcript"]
    assert "".join(delta.get("data", "") for delta in deltas) == whole["data"] != ""
    assert [d["id"] for d in deltas if "id" in d] != [whole["id"]]
    assert [d["expires_at"] for d in deltas if "expires_at" in d] == [4_600]
    assert pieces[-1]["choices"][0]["finish_reason"] == "length"


def test_a_wav_holds_what_pcm16_does(engine: Engine) -> None:
    web = client(engine)
    found = {}
    for format in ("wav", "pcm16"):
        audio = {"modalities": ["audio"], "audio": {"voice": "alloy", "format": format}}
        answer = web.post(PATH, json=PLAIN | audio).json()
        found[format] = answer["choices"][0]["message"]["audio"]["data"]
    assert len(found["pcm16"]) > 1_000
    header = 44
    import base64

    wav, bare = (base64.b64decode(found[format]) for format in ("wav", "pcm16"))
    assert wav[:4] == b"RIFF" and wav[header:] == bare


def test_the_document_has_the_request_its_pieces_and_its_errors(engine: Engine) -> None:
    document = client(engine).get("/openapi.json").json()
    operation = document["paths"][PATH]["post"]
    schemas = document["components"]["schemas"]

    def named(content: dict[str, Any]) -> str:
        (body,) = content.values()
        return body["schema"]["$ref"].rpartition("/")[2]

    assert named(operation["requestBody"]["content"]) == "ChatRequest"
    assert {"messages", "modalities", "audio", "stop"} <= set(schemas["ChatRequest"]["properties"])
    assert {"application/json", "text/event-stream"} == set(
        operation["responses"]["200"]["content"]
    )
    assert named(operation["responses"]["503"]["content"]) == "ErrorAnswer"
    text = json.dumps(document)
    for place in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert place in schemas
