"""The address of a cluster, in front of two servers of the tiny model that Ray has not placed."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from openai import AsyncOpenAI
from websockets.asyncio.client import connect as connect_and_follow
from websockets.exceptions import ConnectionClosed, InvalidStatus

from omni.engine import Engine
from omni.files import UserError
from serve.router.cluster import check_reach, share_of
from serve.router.places import SILENT_S, Place, Registry
from serve.router.session_router import create_router
from serve.web import Draining, ServeSettings, create_app
from tests.realtime import Client, loud, model_info, served
from tests.serving import BEARER, KEY
from tests.talk import SHORT, model, processor

SETTINGS = ServeSettings(api_keys=(KEY,), key_secret="x" * 32)


def place(name: str, port: int, **values: Any) -> Place:
    plain = Place(
        replica=name, address=f"127.0.0.1:{port}", sessions=0, max_sessions=1, connections=0,
        draining=False, told=("model: tiny",),
    )  # fmt: skip
    return replace(plain, **values)


@dataclass
class Routed:
    port: int
    ports: list[int]  # of the replicas
    places: list[Place]
    draining: Draining

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(f"http://127.0.0.1:{self.port}{path}", headers=BEARER, **options)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=BEARER)

    def sent_to(self) -> int:
        """The port that a WebSocket is sent on to."""
        with pytest.raises(InvalidStatus) as sent_on:
            Client(self.port, additional_headers=BEARER)
        response = sent_on.value.response
        assert response.status_code == 307
        url = httpx.URL(response.headers["location"])
        assert (url.scheme, url.path, url.query) == ("ws", "/v1/realtime", b"model=any")
        assert url.port is not None
        return url.port


@contextmanager
def replica(stack: ExitStack) -> Iterator[int]:
    engine = stack.enter_context(Engine(model(), processor(), max_sessions=1))
    app = create_app(SETTINGS, engine, model_info(SHORT), make_voice=lambda: loud)
    with served(app) as port:
        yield port


@pytest.fixture
def routed() -> Iterator[Routed]:
    with ExitStack() as stack:
        ports = [stack.enter_context(replica(stack)) for _ in range(2)]
        places = [place(str(number), port) for number, port in enumerate(ports)]
        draining = Draining()

        async def ask() -> list[Place]:
            return places

        port = stack.enter_context(served(create_router(SETTINGS, ask, draining)))
        yield Routed(port, ports, places, draining)


def test_sessions_are_sent_to_who_is_least_busy_those_on_their_way_counted(routed: Routed) -> None:
    routed.places[0] = replace(routed.places[0], connections=1)
    assert [routed.sent_to() for _ in range(4)] == [routed.ports[place] for place in (1, 0, 1, 0)]


def test_who_has_died_or_is_full_is_passed_over_though_nobody_has_said_so(routed: Routed) -> None:
    routed.places.insert(0, place("dead", 1))
    with Client(routed.ports[0], additional_headers=BEARER) as client:
        assert client.next()["type"] == "session.created"
        assert [routed.sent_to() for _ in range(2)] == [routed.ports[1]] * 2


def test_where_all_are_full_or_leave_clients_are_told_to_come_again(routed: Routed) -> None:
    def turned_away() -> tuple[str, int | None]:
        with Client(routed.port, additional_headers=BEARER) as client:
            code = client.next()["error"]["code"]
            with pytest.raises(ConnectionClosed):
                client.next()
            return code, client.socket.close_code

    del routed.places[:]
    assert turned_away() == ("server_full", 1013)
    assert routed.get("/ready").status_code == 503
    answer = routed.post("/v1/chat/completions", json={})
    assert answer.status_code == 503 and answer.headers["retry-after"]
    routed.draining.begun = True
    assert turned_away() == ("server_draining", 1012)
    assert routed.get("/health").json() == {"status": "draining"}


def test_without_a_key_no_address_is_told(routed: Routed) -> None:
    with pytest.raises(InvalidStatus, match="401"):
        Client(routed.port)
    address = f"http://127.0.0.1:{routed.port}"
    assert httpx.get(f"{address}/replicas").status_code == 401
    secret = httpx.post(f"{address}/v1/realtime/client_secrets")
    assert secret.status_code == 401 and "url" not in secret.json()


def test_a_short_lived_key_comes_with_the_address_where_it_is_for(routed: Routed) -> None:
    secret = routed.post("/v1/realtime/client_secrets").json()
    port = httpx.URL(secret["url"]).port
    assert port in routed.ports
    short = {"authorization": f"Bearer {secret['value']}"}
    with Client(port, additional_headers=short) as client:
        assert client.next()["type"] == "session.created"
    assert routed.sent_to()  # this key opens the router, too


def test_the_official_client_asks_for_a_key_and_goes_where_it_is_for(routed: Routed) -> None:
    async def first_event() -> str:
        router = AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{routed.port}/v1")
        secret: Any = await router.realtime.client_secrets.create()
        base = secret.url.removesuffix("/realtime")
        official = AsyncOpenAI(api_key=secret.value, websocket_base_url=base)
        async with official.realtime.connect(model="tiny") as connection:
            return (await connection.recv()).type

    assert asyncio.run(first_event()) == "session.created"


@pytest.mark.parametrize("by_header", [True, False])
def test_a_client_that_follows_brings_its_key_along(routed: Routed, by_header: bool) -> None:
    async def first_event() -> str:
        offered: Any = None if by_header else ["realtime", f"openai-insecure-api-key.{KEY}"]
        async with connect_and_follow(
            f"ws://127.0.0.1:{routed.port}/v1/realtime",
            subprotocols=offered, additional_headers=BEARER if by_header else None,
        ) as connection:  # fmt: skip
            return json.loads(await connection.recv())["type"]

    assert asyncio.run(first_event()) == "session.created"


def test_what_is_no_session_is_passed_on(routed: Routed) -> None:
    assert routed.get("/v1/models").json()["data"][0]["id"] == "tiny"
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    with httpx.stream(
        "POST", f"http://127.0.0.1:{routed.port}/v1/chat/completions", headers=BEARER, json=asked
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "data: [DONE]" in answer.read().decode()
    refused = routed.post("/v1/chat/completions", json=asked | {"model": "other"})
    assert refused.status_code == 404 and refused.json()["error"]["code"] == "model_not_found"


def test_who_leaves_the_router_leaves_the_replica(routed: Routed) -> None:
    left = threading.Event()
    slow = FastAPI()

    @slow.get("/ready")
    def ready() -> None:
        """It has room."""

    @slow.post("/v1/chat/completions")
    async def answer(request: Request) -> None:
        await request.body()
        for _ in range(200):
            await asyncio.sleep(0.05)
            if await request.is_disconnected():
                left.set()
                return

    with served(slow) as port:
        routed.places[:] = [place("slow", port)]
        with pytest.raises(httpx.ReadTimeout):
            routed.post("/v1/chat/completions", json={}, timeout=1.0)
        assert left.wait(5)


def test_the_page_comes_from_the_replica_that_it_will_speak_to(routed: Routed) -> None:
    page = routed.get("/")
    assert page.status_code == 307
    assert httpx.URL(page.headers["location"]).port in routed.ports


def test_prometheus_and_people_are_told_where_the_replicas_are(routed: Routed) -> None:
    (first, _) = routed.get("/replicas").json()
    assert first["targets"] == [f"127.0.0.1:{routed.ports[0]}"]
    assert first["labels"]["max_sessions"] == "1" and first["labels"]["draining"] == "false"


def test_who_says_nothing_for_long_counts_as_gone() -> None:
    now = 0.0
    registry = Registry(lambda: now)
    registry.tell(place("first", 1))
    registry.tell(place("second", 2))
    now = SILENT_S - 1
    registry.tell(place("second", 2, sessions=1))
    now = SILENT_S + 1
    assert registry.places() == [place("second", 2, sessions=1)]
    registry.leave("second")
    assert registry.places() == []


def test_a_cluster_that_can_not_do_it_is_told_before_anything_is_placed() -> None:
    two = replace(SETTINGS, replicas=2, device="auto")
    assert share_of(two, {"CPU": 2}) == {"num_cpus": 1, "num_gpus": 0}
    assert share_of(two, {"CPU": 2, "GPU": 2}) == {"num_cpus": 1, "num_gpus": 1}
    assert share_of(replace(two, device="cpu", threads=4), {"CPU": 8, "GPU": 1})["num_gpus"] == 0
    with pytest.raises(UserError, match="need 2 GPUs, and the cluster has 1"):
        share_of(two, {"CPU": 2, "GPU": 1})
    with pytest.raises(UserError, match="no GPU"):
        share_of(replace(two, device="cuda"), {"CPU": 2})
    with pytest.raises(UserError, match="need 8 CPUs"):
        share_of(replace(two, threads=4), {"CPU": 2})
    check_reach(SETTINGS, ["10.0.0.1", "10.0.0.1"])
    with pytest.raises(UserError, match=r"--host 0\.0\.0\.0"):
        check_reach(SETTINGS, ["10.0.0.1", "10.0.0.2"])
