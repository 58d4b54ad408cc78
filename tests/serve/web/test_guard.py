"""Requests of strangers' pages, and under names that are not ours, are not looked at."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from serve.web.guard import Guard
from serve.web.settings import ServeSettings


async def greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


def client(**settings: object) -> TestClient:
    app = Starlette(
        routes=[
            Route("/", lambda request: PlainTextResponse("in")),
            Route("/metrics", lambda request: PlainTextResponse("in")),
            WebSocketRoute("/ws", greet),
        ]
    )
    return TestClient(Guard(app, ServeSettings(**settings)))  # type: ignore[arg-type]


def get(headers: dict[str, str], **settings: object) -> int:
    return client(**settings).get("/", headers=headers).status_code


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"]
)
def test_this_machine_is_called_by_its_names(host: str) -> None:
    assert get({"host": host}) == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "[::1", "", "10.0.0.1"])
def test_by_another_name_nobody_comes_in(host: str) -> None:
    assert get({"host": host}) == 403


def test_a_name_can_be_allowed() -> None:
    assert get({"host": "speech.local"}, allowed_hosts=("speech.local",)) == 200
    assert get({"host": "speech.local:80"}, allowed_hosts=("Speech.local:8000", "::2")) == 200
    assert get({"host": ""}, allowed_hosts=("::2",)) == 403
    public = {"host": "0.0.0.0", "api_keys": ("correct-horse",)}
    settings = ServeSettings(**public)  # type: ignore[arg-type]
    assert not settings.loopback
    assert get({"host": "any.example"}, **public) == 200
    assert get({"host": "any.example"}, **public, allowed_hosts=("speech.example",)) == 403


def test_metrics_are_told_to_who_scrapes_by_address_where_a_key_protects_them() -> None:
    public = {"host": "0.0.0.0", "allowed_hosts": ("speech.example",)}
    for protected, status in (({"api_keys": ("correct-horse",)}, 200), ({"insecure": True}, 403)):
        web = client(**public, **protected)
        assert web.get("/metrics", headers={"host": "10.1.2.3:8000"}).status_code == status
        assert web.get("/", headers={"host": "10.1.2.3:8000"}).status_code == 403
    stranger = {"host": "10.1.2.3:8000", "origin": "http://evil.example"}
    protected = client(**public, api_keys=("correct-horse",))
    assert protected.get("/metrics", headers=stranger).status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200), ("https://localhost:8000", 200),
        ("http://localhost:9000", 403), ("http://evil.example", 403), ("null", 403),
        ("https://page.example", 200),
    ],
)  # fmt: skip
def test_only_our_own_pages_and_those_allowed_come_in(origin: str, status: int) -> None:
    headers = {"host": "localhost:8000", "origin": origin}
    assert get(headers, allowed_origins=("https://page.example",)) == status
    assert get(headers, allowed_origins=("https://Page.example/",)) == status  # as it was copied


@pytest.mark.parametrize("origin", ["http://[", "http://[evil"])
def test_a_broken_origin_is_refused_and_no_mistake_of_ours(origin: str) -> None:
    assert get({"host": "localhost:8000", "origin": origin}) == 403


def test_a_socket_is_refused_before_it_is_one() -> None:
    headers = {"host": "localhost:8000", "origin": "http://evil.example"}
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        client().websocket_connect("/ws", headers=headers),
    ):
        pass
    assert caught.value.status_code == 403
    with client().websocket_connect("/ws", headers={"host": "localhost:8000"}):
        pass
