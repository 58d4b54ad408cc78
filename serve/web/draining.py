"""Taking leave: no new sessions, and those that are open may finish."""

from __future__ import annotations

from asyncio import BaseTransport
from collections.abc import Callable, Generator
from contextlib import contextmanager

from serve.realtime import RESTARTING, Connection, Refused

CODE = "server_draining"  # of the error event, and the reason of the close


class Draining:
    """begun: whether new sessions are sent elsewhere. changed: called when one opens or ends.
    hold: called with the connection of one that opens; what it returns is called when that ends.
    """

    def __init__(self) -> None:
        self.begun = False
        self.changed: Callable[[], None] = lambda: None
        self.hold: Callable[[BaseTransport | None], Callable[[], None]] = lambda _: lambda: None
        self._open: set[Connection] = set()

    @property
    def open(self) -> int:
        """How many sessions have not ended."""
        return len(self._open)

    def refusal(self) -> Refused:
        """What a client is told that comes too late, or stays too long."""
        return Refused(CODE, "The server restarts; connect again, and send the history again")

    @contextmanager
    def among(self, connection: Connection, transport: BaseTransport | None) -> Generator[None]:
        """For as long as this session lasts. transport: its connection, where that is known."""
        release = self.hold(transport)
        self._open.add(connection)
        self.changed()
        try:
            yield
        finally:
            release()
            self._open.discard(connection)
            self.changed()

    def end_all(self) -> None:
        """Each open session is told why, and closed with 1012, on which clients come back."""
        for connection in self._open:
            connection.end(RESTARTING, self.refusal())
