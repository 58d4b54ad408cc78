"""How long each stage of one answer took, for clients that ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from omni.engine import Begun, EngineEvent
from omni.session import Timings
from serve.realtime.events import StageTimings


class StageWatch:
    """Runs from its making on. `see` is called on the model's thread, `timings` on any.

    silence_ms: by which the end of the question was known.
    """

    def __init__(
        self, silence_ms: int | None, *, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._silence_ms = silence_ms
        self._now = now
        self._began = now()
        self._taken_ms = 0.0  # with what encoding took, which the engine counts itself

    def see(self, event: EngineEvent) -> None:
        """Take the time of what the engine says."""
        if isinstance(event, Begun):
            self._taken_ms = 1e3 * (self._now() - self._began)

    def timings(self, response_id: str, timings: Timings) -> StageTimings:
        """All stages as they are told."""
        told = asdict(timings)
        del told["real_time_factor"]  # total_ms over audio_ms
        return StageTimings(
            response_id=response_id,
            silence_ms=self._silence_ms,
            queue_ms=max(0.0, self._taken_ms - timings.encode_ms),
            **told,
        )
