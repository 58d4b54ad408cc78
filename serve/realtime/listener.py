"""What a client has left to play of an answer, reckoned from what it was sent and when."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Listener:
    """One answer's. A client plays what comes at once and at the speed at which it was spoken.

    One that buffers first has more left than is reckoned here: that errs to the safe side.
    """

    sent_s: float = 0.0
    _ends: float = field(default=-math.inf, init=False)

    def sent(self, seconds: float, now: float) -> float:
        """So much sound more has gone out; seconds that are left to play then."""
        self.sent_s += seconds
        self._ends = max(self._ends, now) + seconds
        return self._ends - now

    def left_s(self, now: float) -> float:
        """How much of it has still to be played."""
        return max(0.0, self._ends - now)

    def heard_ms(self, now: float) -> float:
        """How much of it has been played."""
        return 1e3 * (self.sent_s - self.left_s(now))
