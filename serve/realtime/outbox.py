"""What waits to be sent to one client, bounded by the sound in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Event = TypeVar("Event")


@dataclass(frozen=True)
class Waiting(Generic[Event]):
    """delta_of: the response that it is a piece of, None for all that must arrive."""

    event: Event
    delta_of: str | None = None
    audio_ms: float = 0.0


class Outbox(Generic[Event]):
    """In order. `full` is called where more than `high_ms` of sound wait, `ready` when less than
    half of that do."""

    def __init__(
        self, high_ms: float, *, full: Callable[[], None], ready: Callable[[], None]
    ) -> None:
        self._waiting: deque[Waiting[Event]] = deque()
        self._some = asyncio.Event()
        self._high_ms = high_ms
        self._full = full
        self._ready = ready
        self.is_full = False
        self.audio_ms = 0.0
        # Called with the response and the length (ms) of each piece of sound that goes out.
        self.sound_sent: Callable[[str, float], None] = lambda response_id, audio_ms: None

    def put(self, event: Event, *, delta_of: str | None = None, audio_ms: float = 0.0) -> None:
        """One more event; audio_ms: the sound in it."""
        self._waiting.append(Waiting(event, delta_of, audio_ms))
        self._count(audio_ms)
        self._some.set()

    def drop_deltas(self, response_id: str) -> bool:
        """What is left of a response that nobody wants to hear any more; whether anything was."""
        dropped = [waiting for waiting in self._waiting if waiting.delta_of == response_id]
        if dropped:
            kept = (waiting for waiting in self._waiting if waiting.delta_of != response_id)
            self._waiting = deque(kept)
            self._count(-sum(waiting.audio_ms for waiting in dropped))
        return bool(dropped)

    async def next(self) -> Event:
        """The next event, when there is one."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        waiting = self._waiting.popleft()
        self._count(-waiting.audio_ms)
        if waiting.delta_of is not None and waiting.audio_ms:
            self.sound_sent(waiting.delta_of, waiting.audio_ms)
        return waiting.event

    def __len__(self) -> int:
        return len(self._waiting)

    def _count(self, audio_ms: float) -> None:
        self.audio_ms = max(0.0, self.audio_ms + audio_ms)
        if not self.is_full and self.audio_ms > self._high_ms:
            self.is_full = True
            self._full()
        elif self.is_full and self.audio_ms < self._high_ms / 2:
            self.is_full = False
            self._ready()
