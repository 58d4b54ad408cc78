"""The pipe between the supervisor and a replica: connections one way, what is open the other.

A connection is handed over whole, as a file descriptor: from then on its bytes go between client
and replica alone, and whatever they are (TLS, HTTP, a WebSocket) the supervisor never reads them.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field

MOST_AT_ONCE = 16  # file descriptors in one read
CONNECTION = b"c"  # each travels with a byte


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a replica tells. taken: connections it was ever handed; open: of them, now.

    told: what it serves, as start-up shows it.
    """

    taken: int = 0
    open: int = 0
    sessions: int = 0
    told: list[str] = field(default_factory=list[str])


class Handed:
    """The replica's end: a serve.web.server.Source."""

    def __init__(self, pipe: socket.socket, told: list[str]) -> None:
        self._pipe = pipe
        self._told = told
        self._taken = 0
        self._last = Report()
        self._unsent = b""

    def open(self, take: Callable[[socket.socket], None], ended: Callable[[], None]) -> None:
        """Give each connection to `take`; `ended`: the supervisor has gone."""
        self._pipe.setblocking(False)
        asyncio.get_running_loop().add_reader(self._pipe, self._read, take, ended)

    def report(self, connections: int, sessions: int) -> None:
        """Tell the supervisor, if anything has changed."""
        report = Report(taken=self._taken, open=connections, sessions=sessions, told=self._told)
        if report != self._last and not self._unsent:
            self._unsent = json.dumps(asdict(report)).encode() + b"\n"
            self._last = report
        if self._unsent:
            with suppress(OSError):  # it has gone, or reads nothing now
                self._unsent = self._unsent[self._pipe.send(self._unsent) :]

    def close(self) -> None:
        """No more of them."""
        asyncio.get_running_loop().remove_reader(self._pipe)
        self._pipe.close()

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

    def _read(self) -> None:
        try:
            data = self._pipe.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._pipe)
            self._pipe.close()
            self.ready = False
            self.ended.set()
        *lines, self._unread = (self._unread + data).split(b"\n")
        if lines:
            self.report = Report(**json.loads(lines[-1]))
            self.ready = True
        self._changed()
