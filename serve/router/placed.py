"""One of several servers, on whatever node Ray Serve has placed it.

Two processes: the model's, and Ray's actor, which holds no model. As the supervisor of one machine
does, the actor hands connections to the model's process and holds those of sessions, too: when
that dies, they are closed with 1012. When the actor dies, what runs may finish.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from serve.router.farewell import close_restarting
from serve.router.handing import Replica, accepted
from serve.router.places import HEARTBEAT_S, Place
from serve.router.replica import begin
from serve.web import ServeSettings, bind

LOOK_S = 0.1  # how often it is looked whether anything has changed
GRACE_S = 15.0  # beyond the time for draining; who has not ended then is killed


class Told(Protocol):
    """Where a replica says how busy it is. See places.Registry."""

    def tell(self, place: Place) -> None:
        """It is there."""
        ...

    def leave(self, replica: str) -> None:
        """It is there no more."""
        ...

    def hurried(self) -> bool:
        """Whether it shall end at once."""
        ...


class RemoteRegistry:
    """A registry that is an actor of Ray; what is told is not waited for."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def tell(self, place: Place) -> None:
        """As the registry's."""
        self._actor.tell.remote(place)

    def leave(self, replica: str) -> None:
        """As the registry's."""
        self._actor.leave.remote(replica)

    def hurried(self) -> bool:
        """As the registry's; not, where that can't be asked."""
        import ray
        from ray.exceptions import RayError

        try:
            return ray.get(self._actor.hurried.remote(), timeout=HEARTBEAT_S)
        except RayError:
            return False


class PlacedServer:
    """Ray Serve's deployment. It is there when it serves; Ray Serve asks `check_health`, and drops
    it when it shall drain. port: that of the router, which start-up shows.

    Raises RuntimeError if the model's process ends before it serves.
    """

    def __init__(self, settings: ServeSettings, registry: Any, port: int) -> None:
        from ray.serve import get_replica_context
        from ray.util import get_node_ip_address

        host = settings.host if settings.loopback else get_node_ip_address()
        name = get_replica_context().replica_id.unique_id
        if settings.allowed_hosts:
            settings = replace(settings, allowed_hosts=(*settings.allowed_hosts, host))
        self._server: Server | None = None
        self._server = Server(settings, host, port, name, RemoteRegistry(registry))
        self._server.start()

    def check_health(self) -> None:
        """Raise RuntimeError once the model's process has ended."""
        if self._server is not None:
            self._server.check()

    def __del__(self) -> None:
        if self._server is not None:
            self._server.end()


class Server:
    """A replica of the model in a process of its own, behind a port of this node."""

    def __init__(
        self, settings: ServeSettings, host: str, router_port: int, name: str, registry: Told
    ) -> None:
        self._settings = settings
        self._name = name
        self._registry = registry
        self._door = bind(replace(settings, host=host, port=0))
        self._door.listen(socket.SOMAXCONN)
        self._door.setblocking(False)
        shown = f"[{host}]" if ":" in host else host
        self._address = f"{shown}:{self._door.getsockname()[1]}"
        self._pipe, theirs = socket.socketpair()
        with theirs:
            self._process = begin(
                multiprocessing.get_context("spawn"), settings, 0, theirs, router_port
            )
        self._draining = False
        self._served = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        """Return once the model is served. Raises RuntimeError if it never is."""
        self._thread.start()
        while not self._served.wait(LOOK_S):
            self.check()

    def check(self) -> None:
        """Raise RuntimeError once the process has ended; its sessions have been told then."""
        if not self._thread.is_alive():
            raise RuntimeError(
                f"{self._name}: the model's process has ended with exit code "
                f"{self._process.exitcode}; its own words stand in this replica's log"
            )

    def end(self) -> None:
        """Drain: no new sessions, and those that are open may finish. Returns when they have, or
        their time is over; they are closed with 1012 then."""
        self._draining = True
        self._signal(signal.SIGTERM)
        until = time.monotonic() + self._settings.drain_s + GRACE_S
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(HEARTBEAT_S)
            if self._thread.is_alive() and self._registry.hurried():
                self._signal(signal.SIGINT)
        if self._process.is_alive():
            self._process.kill()
        self._thread.join(HEARTBEAT_S)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.is_alive() and self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def _run(self) -> None:
        replica = Replica(self._pipe, lambda: None)
        accepting = asyncio.create_task(self._accept(replica))
        telling = asyncio.create_task(self._tell(replica))
        await replica.ended.wait()
        accepting.cancel()
        telling.cancel()
        self._door.close()
        self._registry.leave(self._name)
        async with asyncio.TaskGroup() as group:
            for connection in replica.bereaved():
                group.create_task(close_restarting(connection))
        await asyncio.to_thread(self._process.join)

    async def _accept(self, replica: Replica) -> None:
        async for connection in accepted(self._door):
            with connection:  # closed here, open there
                replica.hand(connection)

    async def _tell(self, replica: Replica) -> None:
        """Say how busy it is when that has changed, and now and then."""
        last: Place | None = None
        said = 0.0
        while True:
            now = time.monotonic()
            if replica.ready and ((place := self._place(replica)) != last or now > said):
                self._registry.tell(place)
                last, said = place, now + HEARTBEAT_S
                self._served.set()
            await asyncio.sleep(LOOK_S)

    def _place(self, replica: Replica) -> Place:
        return Place(
            replica=self._name, address=self._address, sessions=replica.report.sessions,
            max_sessions=self._settings.max_sessions, connections=replica.load,
            draining=self._draining, told=tuple(replica.report.told),
        )  # fmt: skip
