"""What the replicas of a cluster say of themselves, in an actor that all of its nodes reach."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

HEARTBEAT_S = 1.0  # how often a replica says something, whether or not anything has changed
SILENT_S = 5.0  # after which one counts as gone


@dataclass(frozen=True, kw_only=True)
class Place:
    """A replica, and how busy it is. address: as in a URL, host:port. told: what it serves, as
    start-up shows it."""

    replica: str
    address: str
    sessions: int
    max_sessions: int
    connections: int
    draining: bool
    told: tuple[str, ...]

    @property
    def busy(self) -> tuple[bool, bool, int]:
        """Who is asked first is the least of these."""
        return self.draining, self.sessions >= self.max_sessions, self.connections


class Registry:
    """It knows nothing that the next heartbeats would not tell it again, should it be lost."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._places: dict[str, tuple[float, Place]] = {}
        self._hurried = False

    def tell(self, place: Place) -> None:
        """A replica is there."""
        self._places[place.replica] = self._now(), place

    def leave(self, replica: str) -> None:
        """It is there no more."""
        self._places.pop(replica, None)

    def places(self) -> list[Place]:
        """Those that were heard of lately."""
        since = self._now() - SILENT_S
        self._places = {name: told for name, told in self._places.items() if told[0] > since}
        return [place for _, place in self._places.values()]

    def hurry(self) -> None:
        """Who drains shall end at once."""
        self._hurried = True

    def hurried(self) -> bool:
        """Whether `hurry` was called."""
        return self._hurried
