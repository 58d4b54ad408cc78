"""Which requests are looked at at all: by the name that they call us, and the page they are from.

A page of a stranger in a user's browser can open WebSockets to this machine, and a name that is
made to point here lets it read our answers; neither is stopped by a browser's own rules.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from serve.chat import ApiError
from serve.web.settings import ServeSettings

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
METRICS = "/metrics"


def guard(app: FastAPI, settings: ServeSettings) -> None:
    """Have an application look at requests only if Guard lets them pass, and tell browsers that the
    pages that are allowed may read the answers."""
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=_origins(settings), allow_methods=["GET", "POST"],
            allow_headers=["*"], expose_headers=["Retry-After"],
        )  # fmt: skip
    app.add_middleware(Guard, settings=settings)  # the last one stands before the others


class Guard:
    """ASGI middleware: 403 before any upgrade."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        # As a user may have copied them: a name with its port, an origin with a slash behind it.
        allowed = settings.allowed_hosts
        self._hosts = {name.lower() for name in allowed} | {_name(f"//{name}") for name in allowed}
        self._hosts.discard("")
        # Where strangers can reach us a key protects; a list of names makes it stricter.
        self._any_host = not settings.loopback and not self._hosts
        self._hosts.update(THIS_MACHINE)  # as probes call us that come from beside us
        if settings.loopback:
            self._hosts.add(settings.host)
        # Prometheus calls each server by its address, and brings a key.
        self._by_any_name = {METRICS} if settings.api_keys else set[str]()
        self._origins = set(_origins(settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if (refused := self._refuses(scope["path"], headers)) is None:
            await self._app(scope, receive, send)
            return
        response = ApiError(403, "forbidden", refused).response()
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(response)
        else:
            await response(scope, receive, send)

    def _refuses(self, path: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        any_host = self._any_host or path in self._by_any_name
        if not any_host and _name(f"//{host}") not in self._hosts:
            return "Host: not a name of this server; add it to allowed_hosts"
        origin = headers.get("origin")
        if origin is None or origin in self._origins or _site(origin) == host:
            return None
        return "Origin: another site; add it to allowed_origins"


def _origins(settings: ServeSettings) -> list[str]:
    """Of the pages that are allowed, as browsers tell them."""
    return [one.rstrip("/").lower() for one in settings.allowed_origins]


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # brackets that don't close
        return ""


def _site(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
