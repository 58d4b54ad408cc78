"""How fast a reply is made, and how much of it the listener has still to play."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is known of a reply when the size of its next chunk is asked for.

    waiting_units: those that a chunk could hold now, their right context included in what is here.
    sent_seconds: of sound, in chunks so far. buffered_seconds: what the listener has left to play,
    by the clock or as the listener said. seconds_per_unit: that the making of a unit has taken so
    far, from language model to waveform; None while nothing could be measured.
    """

    waiting_units: int = 0
    sent_seconds: float = 0.0
    buffered_seconds: float = 0.0
    seconds_per_unit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The times of one reply, in seconds of the caller's clock.

    began: when its first units came, and how many these were; units: how many came in all;
    sent_seconds: of sound; ends: when all that was sent will have been played.
    """

    began: tuple[float, int] | None = None
    units: int = 0
    sent_seconds: float = 0.0
    ends: float = -math.inf

    def came(self, units: int, now: float) -> Pace:
        """So many units more."""
        return replace(self, began=self.began or (now, units), units=self.units + units)

    def sent(self, seconds: float, now: float) -> Pace:
        """A chunk more: it is played after what came before, or now where that has run out."""
        return replace(
            self, sent_seconds=self.sent_seconds + seconds, ends=max(self.ends, now) + seconds
        )

    def progress(self, waiting_units: int, now: float) -> Progress:
        """What a schedule is told."""
        began, first = self.began or (now, self.units)
        # The first units came with the reply's beginning: their making is not in this time.
        measured, spent = self.units - first, now - began
        return Progress(
            waiting_units=waiting_units,
            sent_seconds=self.sent_seconds,
            buffered_seconds=max(0.0, self.ends - now),
            seconds_per_unit=spent / measured if measured > 0 and spent > 0 else None,
        )
