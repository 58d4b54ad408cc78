"""Replicas on one machine behind one address: who is least busy gets the next connection.

A session is one connection, so it stays with its replica. Each replica is a process with a model
of its own; one that ends is started anew.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import resource
import secrets
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from tempfile import TemporaryDirectory

from prometheus_client.multiprocess import mark_process_dead

from omni.files import UserError
from serve.realtime import SHARED
from serve.router.farewell import close_restarting
from serve.router.handing import Replica, accepted
from serve.router.replica import begin
from serve.web import ServeSettings

log = logging.getLogger(__name__)

GRACE_S = 15.0  # beyond the time for draining; who has not ended then is killed
WAITS_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # before one that failed while it loaded is started again
LOOK_S = 0.1  # how often it is looked whether a replica serves
SPARE_FILES = 256  # beside those of sessions: pipes, processes, what is just arriving


def supervise(
    settings: ServeSettings, door: socket.socket, *, started: Callable[[list[str]], None]
) -> None:
    """Run the replicas until SIGTERM (they drain) or SIGINT (at once); SIGHUP restarts one after
    the other. started: told what is served, once all of them serve.

    Raises UserError if one ends before it has ever served: so would the next.
    """
    allow_files(settings.replicas * settings.max_sessions + SPARE_FILES)
    secret = settings.key_secret or secrets.token_urlsafe()
    with TemporaryDirectory(prefix="omni-serve-") as folder:
        os.environ[SHARED] = folder
        supervisor = Supervisor(replace(settings, key_secret=secret), door, folder, started)
        asyncio.run(supervisor.run())


def allow_files(number: int) -> None:
    """Let this process, and those that it starts, have so many files open, if it may.

    The supervisor holds each open session's connection too, beside its replica.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= number:
        return
    allowed = number if hard == resource.RLIM_INFINITY else min(number, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < number:
        log.warning("open files: %d allowed, %d wanted for all sessions; see ulimit", hard, number)


class Supervisor:
    """`run` it in an event loop of its own. folder: where the replicas keep their metrics."""

    def __init__(
        self,
        settings: ServeSettings,
        door: socket.socket,
        folder: str,
        started: Callable[[list[str]], None],
    ) -> None:
        self._settings = settings
        self._door = door
        self._folder = folder
        self._tell: Callable[[list[str]], None] | None = started
        self._port: int = door.getsockname()[1]
        self._processes = multiprocessing.get_context("spawn")
        self._running: dict[int, tuple[Replica, BaseProcess]] = {}  # by the replica's number
        self._ending: signal.Signals | None = None
        self._ended = asyncio.Event()
        self._listening = asyncio.Event()
        self._restarting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until all replicas have ended, because they were told to."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._restart)
        accepting = asyncio.create_task(self._accept())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._settings.replicas):
                    group.create_task(self._keep(number, group))
        except* UserError as failed:
            raise failed.exceptions[0] from None
        finally:
            accepting.cancel()
            for _, process in self._running.values():
                process.kill()

    # The address

    async def _accept(self) -> None:
        await self._listening.wait()
        async for connection in accepted(self._door):
            with connection:  # closed here, open there
                self._hand(connection)

    def _hand(self, connection: socket.socket) -> None:
        serving = [replica for replica, _ in self._running.values() if replica.ready]
        if not any(replica.hand(connection) for replica in sorted(serving, key=self._busy)):
            log.error("no replica serves; a connection is closed")

    def _busy(self, replica: Replica) -> tuple[bool, bool, int]:
        full = replica.report.sessions >= self._settings.max_sessions
        return replica.draining, full, replica.load

    # The replicas

    async def _keep(self, number: int, group: asyncio.TaskGroup) -> None:
        failures = 0
        while self._ending is None:
            replica, process = self._start(number)
            await replica.ended.wait()
            for connection in replica.bereaved():
                group.create_task(close_restarting(connection))
            await asyncio.to_thread(process.join)
            served = bool(replica.report.told)
            mark_process_dead(process.pid, self._folder)
            if self._ending is not None:
                return
            if self._tell is not None and not served:
                raise UserError(
                    f"replica {number}: ended with exit code {process.exitcode} before it served; "
                    "its own words stand above"
                )
            if not replica.draining:
                log.error("replica %d: ended with exit code %s", number, process.exitcode)
            failures = 0 if served else failures + 1
            if failures:
                await self._pause(WAITS_S[min(failures, len(WAITS_S)) - 1])

    def _start(self, number: int) -> tuple[Replica, BaseProcess]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = begin(self._processes, self._settings, number, theirs, self._port)
        self._running[number] = Replica(ours, self._notice), process
        return self._running[number]

    def _notice(self) -> None:
        """A replica has told something, or ended."""
        reports = [replica.report for replica, _ in self._running.values() if replica.ready]
        if reports and not self._listening.is_set():
            # Here, so that who reads what is told below finds the address open.
            self._door.setblocking(False)
            self._door.listen(socket.SOMAXCONN)
            self._listening.set()
        if self._tell is not None and len(reports) == self._settings.replicas:
            self._tell(reports[0].told)
            self._tell = None

    # What signals ask

    def _end(self, number: signal.Signals) -> None:
        self._ending = number
        if self._restarting is not None:
            self._restarting.cancel()
        self._ended.set()
        for replica, process in self._running.values():
            self._stop(replica, process, number)

    def _stop(self, replica: Replica, process: BaseProcess, number: signal.Signals) -> None:
        """By a signal; what has not ended long after its time is killed."""
        replica.draining = True
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)
            limit = self._settings.drain_s + GRACE_S
            asyncio.get_running_loop().call_later(limit, process.kill)

    def _restart(self) -> None:
        if self._ending is None and (self._restarting is None or self._restarting.done()):
            self._restarting = asyncio.create_task(self._restart_in_turn())

    async def _restart_in_turn(self) -> None:
        for number in list(self._running):
            old, process = self._running[number]
            self._stop(old, process, signal.SIGTERM)
            while (new := self._running[number][0]) is old or not new.ready:
                await asyncio.sleep(LOOK_S)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)
