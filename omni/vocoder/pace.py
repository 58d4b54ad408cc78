"""How fast a reply is made, and how much of it the listener has still to play."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is known of a reply when the size of its next chunk is asked for.

    waiting_units: those that a chunk could hold now, their right context included in what is here.
    sent_seconds: of sound, in chunks so far; last_units: in the last of them. buffered_seconds:
    what the listener has left to play, by the clock or as the listener said. seconds_per_unit: that
    the making of a unit has taken of late, from language model to waveform, with what else its
    thread had to do meanwhile; real_time_factor: the same over how long a unit sounds. Both are
    None while nothing could be measured. chunk_seconds: of these, what the last chunk's waveform
    took; None before the first.
    """

    waiting_units: int = 0
    sent_seconds: float = 0.0
    last_units: int = 0
    buffered_seconds: float = 0.0
    seconds_per_unit: float | None = None
    real_time_factor: float | None = None
    chunk_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The times of one reply, in seconds of the caller's clock.

    since: from when its speed is measured, and how many units were there then: its first units,
    later the last chunk. chunk_speed: seconds that each unit took from the chunk before the last
    to the last one, the vocoder's work on it included; chunk_seconds: of that work alone. units:
    how many came in all; last_units: of the last chunk; sent_seconds: of sound, in all chunks;
    ends: when all that was sent will have been played.
    """

    since: tuple[float, int] | None = None
    chunk_speed: float | None = None
    chunk_seconds: float | None = None
    units: int = 0
    last_units: int = 0
    sent_seconds: float = 0.0
    ends: float = -math.inf

    def came(self, units: int, now: float) -> Pace:
        """So many units more."""
        return replace(self, since=self.since or (now, units), units=self.units + units)

    def sent(self, units: int, seconds: float, now: float, *, began: float) -> Pace:
        """A chunk more, that was begun then: it is played after what came before, or now where
        that has run out."""
        measured = self._speed(now)
        return replace(
            self,
            # Where nothing came since, this chunk's making counts with the next units.
            since=self.since if measured is None else (now, self.units),
            chunk_speed=self.chunk_speed if measured is None else measured,
            chunk_seconds=now - began,
            last_units=units,
            sent_seconds=self.sent_seconds + seconds,
            ends=max(self.ends, now) + seconds,
        )

    def progress(self, waiting_units: int, now: float, *, unit_seconds: float) -> Progress:
        """What a schedule is told. unit_seconds: how long a unit of this reply sounds."""
        # What has come since the last chunk tells of a load that has just begun.
        speeds = [each for each in (self.chunk_speed, self._speed(now)) if each is not None]
        each = max(speeds, default=None)
        return Progress(
            waiting_units=waiting_units,
            sent_seconds=self.sent_seconds,
            last_units=self.last_units,
            buffered_seconds=max(0.0, self.ends - now),
            seconds_per_unit=each,
            real_time_factor=each / unit_seconds if each is not None and unit_seconds else None,
            chunk_seconds=self.chunk_seconds,
        )

    def _speed(self, now: float) -> float | None:
        """Seconds per unit since `since`; None if nothing came in between."""
        since, first = self.since or (now, self.units)
        # The first units came with the reply's beginning: their making is not in this time.
        measured, spent = self.units - first, now - since
        return spent / measured if measured > 0 and spent > 0 else None
