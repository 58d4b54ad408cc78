"""uvicorn's server, with leave taken in its own time and connections that others have accepted."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Protocol

import uvicorn

from serve.web.draining import Draining

log = logging.getLogger(__name__)

FAREWELL_S = 2.0  # for every session's last words, together


class Source(Protocol):
    """Where connections come from that another process has accepted."""

    def open(self, take: Callable[[socket.socket], None], ended: Callable[[], None]) -> None:
        """Give each connection to `take`; `ended`: there will be no more."""
        ...

    def report(self, connections: int, sessions: int) -> None:
        """How many are open now."""
        ...

    def hold(self, descriptor: int) -> Callable[[], None]:
        """A session is open on this connection, until what is returned is called."""
        ...

    def close(self) -> None:
        """No more of them."""
        ...


class Server(uvicorn.Server):
    """`run` it. SIGTERM: what runs may finish, for `drain_s` at most. SIGINT, a second SIGTERM, or
    a model that is no longer `alive`: at once. Either way sessions are closed with 1012.

    failed: whether it was the model.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        draining: Draining,
        *,
        drain_s: float,
        alive: Callable[[], bool],
        started: Callable[[], None],
        source: Source | None = None,
    ) -> None:
        super().__init__(config)
        self.failed = False
        self._draining = draining
        self._drain_s = drain_s
        self._alive = alive
        self._tell = started
        self._source = source
        self._until: float | None = None
        self._arriving: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; with a source, nothing is listened at."""
        await super().startup(sockets if self._source is None else [])
        if self._source is not None:
            self._source.open(self._arrive, self.drain)
            self._draining.changed = self._report
            self._draining.hold = self._hold
        self._tell()

    def drain(self) -> None:
        """Take no new sessions, and end when there are none, or the time is over."""
        if not self._draining.begun:
            self._draining.begun = True
            self._until = time.monotonic() + self._drain_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM and SIGINT come here."""
        if sig == signal.SIGTERM and not self._draining.begun:
            self.drain()
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether it is time to end."""
        self._report()
        if await super().on_tick(counter):
            return True
        if not self._alive():
            log.error("the model's thread has ended; so does the server")
            self.failed = True
            return True
        if self._until is None:
            return False
        return not self.server_state.tasks or time.monotonic() > self._until

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, after a word to each session."""
        self._draining.begun = True
        self._draining.end_all()
        until = time.monotonic() + FAREWELL_S
        while self._draining.open and time.monotonic() < until:
            await asyncio.sleep(0.02)
        if self._source is not None:
            self._source.close()
            self._source = None
        await super().shutdown(sockets)

    def _report(self) -> None:
        if self._source is not None:
            connections = len(self.server_state.connections) + len(self._arriving)
            self._source.report(connections, self._draining.open)

    def _hold(self, transport: asyncio.BaseTransport | None) -> Callable[[], None]:
        """What is encrypted nobody else can go on with: its keys are here."""
        if self._source is None or transport is None:
            return lambda: None
        if transport.get_extra_info("sslcontext") is not None:
            return lambda: None
        return self._source.hold(transport.get_extra_info("socket").fileno())

    def _arrive(self, connection: socket.socket) -> None:
        task = asyncio.create_task(self._take(connection))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _take(self, connection: socket.socket) -> None:
        loop, config = asyncio.get_running_loop(), self.config
        kind: Any = config.http_protocol_class
        protocol = partial(  # as uvicorn makes its own
            kind, config=config, server_state=self.server_state, app_state=self.lifespan.state
        )
        with suppress(OSError):  # it has gone already, or speaks no TLS
            await loop.connect_accepted_socket(protocol, connection, ssl=config.ssl)
