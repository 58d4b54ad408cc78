"""The pipe between the supervisor and a replica: connections one way, what is open the other.

A connection is handed over whole, as a file descriptor: from then on its bytes go between client
and replica alone, and whatever they are (TLS, HTTP, a WebSocket) the supervisor never reads them.
The replica gives that of a session back, for as long as it lasts: a connection that two processes
hold outlives one of them, and the other can close it with a word (farewell.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from typing import Any

log = logging.getLogger(__name__)

MOST_AT_ONCE = 16  # file descriptors in one read
CONNECTION = b"c"  # each travels with a byte
ACCEPT_AGAIN_S = 1.0  # after an error such as too many open files
# What a replica says, each in a line.
REPORT, HOLD, RELEASE = "report", "hold", "release"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a replica tells. taken: connections it was ever handed; open: of them, now.

    told: what it serves, as start-up shows it.
    """

    taken: int = 0
    open: int = 0
    sessions: int = 0
    told: list[str] = field(default_factory=list[str])


async def accepted(door: socket.socket) -> AsyncGenerator[socket.socket]:
    """Who connects at an address that is listened at."""
    while True:
        try:
            connection, _ = await asyncio.get_running_loop().sock_accept(door)
        except OSError as error:
            log.error("no connection can be accepted: %s", error)
            await asyncio.sleep(ACCEPT_AGAIN_S)
        else:
            yield connection


class Handed:
    """The replica's end: a serve.web.server.Source."""

    def __init__(self, pipe: socket.socket, told: list[str]) -> None:
        self._pipe = pipe
        self._told = told
        self._taken = 0
        self._last = Report()
        self._numbers = count()
        self._held: set[int] = set()
        self._unsent = b""

    def open(self, take: Callable[[socket.socket], None], ended: Callable[[], None]) -> None:
        """Give each connection to `take`; `ended`: the supervisor has gone."""
        self._pipe.setblocking(False)
        asyncio.get_running_loop().add_reader(self._pipe, self._read, take, ended)

    def report(self, connections: int, sessions: int) -> None:
        """Tell the supervisor, if anything has changed."""
        report = Report(taken=self._taken, open=connections, sessions=sessions, told=self._told)
        if report != self._last and not self._unsent:
            self._last = report
            self._unsent = _line(REPORT, asdict(report))
        self._send()

    def hold(self, descriptor: int) -> Callable[[], None]:
        """Give the supervisor a connection, too, until what is returned is called.

        A supervisor that reads nothing now is not given it: that session would end unannounced.
        """
        self._send()
        number = next(self._numbers)
        line = _line(HOLD, number)
        if not self._unsent:
            with suppress(OSError):
                sent = socket.send_fds(self._pipe, [line], [descriptor])
                self._unsent = line[sent:]
                self._held.add(number)
        return partial(self._release, number)

    def close(self) -> None:
        """No more of them; this process closes its sessions itself."""
        for number in list(self._held):
            self._release(number)
        asyncio.get_running_loop().remove_reader(self._pipe)
        self._pipe.close()

    def _release(self, number: int) -> None:
        if number in self._held:
            self._held.discard(number)
            self._unsent += _line(RELEASE, number)
            self._send()

    def _send(self) -> None:
        if self._unsent:
            with suppress(OSError):  # it has gone, or reads nothing now
                self._unsent = self._unsent[self._pipe.send(self._unsent) :]

    def _read(self, take: Callable[[socket.socket], None], ended: Callable[[], None]) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._pipe, MOST_AT_ONCE, MOST_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        self._taken += len(descriptors)
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            connection.setblocking(False)
            take(connection)
        if not data:
            asyncio.get_running_loop().remove_reader(self._pipe)
            ended()


class Replica:
    """The supervisor's end. ended: set once the process has gone."""

    def __init__(self, pipe: socket.socket, changed: Callable[[], None]) -> None:
        self.report = Report()
        self.ready = False
        self.draining = False
        self.ended = asyncio.Event()
        self._pipe = pipe
        self._changed = changed
        self._handed = 0
        self._held: dict[int, socket.socket] = {}  # by the replica's number for it
        self._descriptors: deque[int | None] = deque()  # their lines come; None: lost on the way
        self._unread = b""
        pipe.setblocking(False)
        asyncio.get_running_loop().add_reader(pipe, self._read)

    @property
    def load(self) -> int:
        """Connections that are open, or on their way to it."""
        return self.report.open + self._handed - self.report.taken

    def hand(self, connection: socket.socket) -> bool:
        """Give it a connection. False: it has gone, or does not read."""
        try:
            socket.send_fds(self._pipe, [CONNECTION], [connection.fileno()])
        except OSError:
            return False
        self._handed += 1
        return True

    @property
    def held(self) -> int:
        """Sessions that can be told, should the replica die."""
        return len(self._held)

    def bereaved(self) -> list[socket.socket]:
        """The connections of its sessions, once it has ended without having closed them."""
        left = list(self._held.values())
        self._held.clear()
        return left

    def _read(self) -> None:
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._pipe, 65_536, MOST_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors, flags = b"", [], 0
        # One travels with a line, and a read ends behind it; no room for it: too many open files.
        self._descriptors.extend(descriptors or ([None] if flags & socket.MSG_CTRUNC else []))
        if not data:
            asyncio.get_running_loop().remove_reader(self._pipe)
            self._pipe.close()
            self.ready = False
            self.ended.set()
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._hear(*json.loads(line))
        self._changed()

    def _hear(self, kind: str, value: Any) -> None:
        if kind == REPORT:
            self.report = Report(**value)
            self.ready = True
        elif kind == RELEASE:
            if (connection := self._held.pop(value, None)) is not None:
                connection.close()
        elif (descriptor := self._descriptors.popleft()) is not None:
            self._held[value] = socket.socket(fileno=descriptor)


def _line(kind: str, value: Any) -> bytes:
    return json.dumps([kind, value]).encode() + b"\n"
