"""The address of a cluster: it hands out those of the replicas, and all sound goes there directly.

A session is sent on by 307, or, for clients that follow none, by the `url` beside a short-lived
key. Other requests are short, and are passed on: clients drop their key where they are sent on.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.types import Message

from serve.chat import FULL, ApiError, Gone, unless_gone
from serve.realtime import RESTARTING, TRY_AGAIN, Refused
from serve.router.places import Place
from serve.web import (
    SUBPROTOCOL,
    Draining,
    Grant,
    Keys,
    ServeSettings,
    admitted,
    granted,
    guard,
    offers_subprotocol,
    shape_errors,
    turn_away,
)

REALTIME = "/v1/realtime"
SECRETS = "/v1/realtime/client_secrets"
LOOK_S = 2.0  # a replica that has not said by then whether it has room is passed over
ON_ITS_WAY_S = 2.0  # so long a session that was sent somewhere is counted there
# Of one connection, not of what goes over it (RFC 9110, 7.6.1); the rest httpx sets by itself.
# Origin: this address has looked at it, and is not the replica's.
NOT_PASSED_ON = {
    "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
    "host", "origin",
}  # fmt: skip
NOT_PASSED_BACK = {"connection", "keep-alive", "transfer-encoding", "server", "date"}


@dataclass
class Places:
    """Which replica is next. ask: what the registry knows."""

    ask: Callable[[], Awaitable[list[Place]]]
    client: httpx.AsyncClient
    scheme: str = "http"
    now: Callable[[], float] = time.monotonic
    _sent: dict[str, deque[float]] = field(default_factory=dict[str, deque[float]])

    async def next(self) -> Place | None:
        """The least busy replica that says itself, just now, that it has room; None: there is none.

        It is asked because the registry may not know yet that one is full, leaves, or has died.
        """
        for place in sorted(await self.ask(), key=self._busy):
            if await self._has_room(place):
                self._sent.setdefault(place.replica, deque()).append(self.now())
                return place
        return None

    def url(self, place: Place, path: str, query: str = "") -> str:
        """Of what a replica has."""
        return f"{self.scheme}://{place.address}{path}" + (f"?{query}" if query else "")

    def _busy(self, place: Place) -> tuple[bool, bool, int]:
        sent = self._sent.get(place.replica, deque())
        while sent and sent[0] < self.now() - ON_ITS_WAY_S:
            sent.popleft()
        draining, full, connections = place.busy
        return draining, full, connections + len(sent)

    async def _has_room(self, place: Place) -> bool:
        try:
            answer = await self.client.get(self.url(place, "/ready"), timeout=LOOK_S)
        except httpx.TransportError:
            return False
        return answer.status_code == 200


def client_of(settings: ServeSettings) -> httpx.AsyncClient:
    """Who asks the replicas. Their certificate is known, and has to name the nodes' addresses."""
    trusted = ssl.create_default_context()
    if settings.ssl_certificate is not None:
        trusted.load_verify_locations(settings.ssl_certificate)
    # trust_env: no proxy stands between the machines of a cluster.
    return httpx.AsyncClient(verify=trusted, timeout=None, trust_env=False)


async def _chosen(request: Request) -> Place:
    return await request.app.state.choose()


Chosen = Annotated[Place, Depends(_chosen)]


def create_router(
    settings: ServeSettings, ask: Callable[[], Awaitable[list[Place]]], draining: Draining
) -> FastAPI:
    """The application. draining: by which it takes leave."""
    scheme = "https" if settings.ssl_certificate else "http"
    places = Places(ask, client_of(settings), scheme)
    keys = Keys(settings.api_keys, secret=settings.key_secret)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with places.client:
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.keys = keys
    guard(app, settings)
    shape_errors(app)

    async def choose() -> Place:
        """Raises ApiError where there is no room."""
        refused = draining.refusal() if draining.begun else Refused("server_full", FULL)
        if draining.begun or (found := await places.next()) is None:
            raise ApiError(503, refused.code, refused.message, retry_after_s=1)
        return found

    app.state.choose = choose

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "draining" if draining.begun else "ok"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        known = [] if draining.begun else [one for one in await ask() if not one.draining]
        sessions = sum(one.sessions for one in known)
        limit = sum(one.max_sessions for one in known)
        told = {"ready": sessions < limit, "sessions": sessions, "max_sessions": limit}
        return JSONResponse(told, status_code=200 if sessions < limit else 503)

    @app.get("/replicas")
    async def replicas(_: Annotated[Grant, Depends(granted)]) -> list[dict[str, Any]]:
        """As Prometheus takes the addresses that it shall ask (http_sd_config)."""
        return [
            {
                "targets": [one.address],
                "labels": {
                    "replica": one.replica, "sessions": str(one.sessions),
                    "max_sessions": str(one.max_sessions), "draining": str(one.draining).lower(),
                },
            }
            for one in await ask()
        ]  # fmt: skip

    @app.get("/")
    async def page(chosen: Chosen) -> Response:
        """A page may speak to where it came from alone, so it comes from the replica."""
        return RedirectResponse(places.url(chosen, "/"), 307)

    @app.websocket(REALTIME)
    async def realtime(socket: WebSocket) -> None:
        if await admitted(socket, keys) is None:
            return
        chosen = None if draining.begun else await places.next()
        if chosen is not None:
            address = places.url(chosen, REALTIME, socket.url.query).replace("http", "ws", 1)
            await socket.send_denial_response(RedirectResponse(address, 307))
            return
        await socket.accept(SUBPROTOCOL if offers_subprotocol(socket.headers) else None)
        if draining.begun:
            await turn_away(socket, draining.refusal(), RESTARTING)
        else:
            await turn_away(socket, Refused("server_full", FULL), TRY_AGAIN)

    @app.get(REALTIME)
    async def realtime_address(request: Request, chosen: Chosen) -> Response:
        return RedirectResponse(places.url(chosen, REALTIME, request.url.query), 307)

    @app.post(SECRETS)
    async def client_secrets(request: Request, chosen: Chosen) -> Response:
        """As a replica answers, and where it is: `url`."""
        answer = await send(request, chosen)
        body = await answer.aread()
        await answer.aclose()
        if answer.status_code == 200:
            address = places.url(chosen, REALTIME).replace("http", "ws", 1)
            body = json.dumps({**json.loads(body), "url": address}).encode()
        return Response(body, answer.status_code, media_type="application/json")

    async def send(request: Request, chosen: Place) -> httpx.Response:
        """A replica works for a client that is there: it hears of one that leaves before the answer
        begins, which takes long where the answer is wanted whole."""
        read = asyncio.Event()  # all of the request: what comes then is the client's leaving

        async def body() -> AsyncGenerator[bytes]:
            async for piece in request.stream():
                yield piece
            read.set()

        async def receive() -> Message:
            await read.wait()
            return await request.receive()

        posted = request.method == "POST"
        if not posted:
            read.set()
        headers = [one for one in request.headers.items() if one[0] not in NOT_PASSED_ON]
        passed = places.client.build_request(
            request.method, places.url(chosen, request.url.path, request.url.query),
            headers=headers, content=body() if posted else None,
        )  # fmt: skip
        try:
            return await unless_gone(places.client.send(passed, stream=True), receive)
        except Gone:
            raise ApiError(499, "client_gone", "The client has left") from None  # read by nobody
        except httpx.TransportError as error:
            message = f"The replica can't be reached ({type(error).__name__}); try again"
            raise ApiError(503, "replica_lost", message, retry_after_s=1) from None

    @app.api_route("/{path:path}", methods=["GET", "HEAD", "POST"])
    async def other(request: Request, chosen: Chosen) -> Response:
        answer = await send(request, chosen)
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code,
            {name: value for name, value in answer.headers.items() if name not in NOT_PASSED_BACK},
            background=BackgroundTask(answer.aclose),
        )  # fmt: skip

    return app
