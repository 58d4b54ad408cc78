"""A listener's playback, reckoned from when sound arrives: nothing is really played."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random


@dataclass
class Playout:
    """One answer's playback; all times in seconds of the caller's clock.

    buffer_s: playing begins so long after the first sound has arrived. jitter_s: each piece comes
    late by up to so much, drawn by `random`; a piece never overtakes the one before it, as over a
    WebSocket. underruns: times that playing ran dry before the end; silent_s: for how long.
    """

    buffer_s: float
    jitter_s: float
    random: Random = field(repr=False)
    ends: float = field(default=-math.inf, init=False)  # when all that arrived has been played
    underruns: int = field(default=0, init=False)
    silent_s: float = field(default=0.0, init=False)
    _last: float = field(default=-math.inf, init=False)

    def arrive(self, at: float, seconds: float) -> None:
        """A piece of sound, so long, leaves the network at this time."""
        at = self._last = max(self._last, at + self.random.uniform(0.0, self.jitter_s))
        if self.ends == -math.inf:
            self.ends = at + self.buffer_s
        elif at > self.ends:
            self.underruns += 1
            self.silent_s += at - self.ends
            self.ends = at
        self.ends += seconds
