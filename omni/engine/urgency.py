"""Whose turn it is: which replies a step is for, where a step for all of them would come too late.

A listener who hears nothing yet waits; one whose player runs dry hears a gap. So those who are
about to run dry come first, then those that have said nothing yet, the oldest first, then those
whose listeners have sound left. Where a step for all of them is quick, as on a GPU, all are in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

STEP_SECONDS = 0.05  # a step for some alone is for as many as it takes this long for
SOON = 0.5  # seconds of sound below which a listener is about to run dry
TOKEN = 0.05  # by how much later a reply without sound counts as begun, for each of its tokens
MEMORY = 0.98  # of what a step weighs in the costs, what is left of it after the next


@dataclass(frozen=True)
class Standing:
    """Where a reply is. begun: when, in seconds of a clock; tokens: that it has said; left: seconds
    of sound that its listener has still to play, less than 0 since they ran out, None before the
    first."""

    begun: float
    tokens: int
    left: float | None

    @property
    def runs_dry(self) -> bool:
        """Whether its listener will soon have nothing left to play, or has nothing."""
        return self.left is not None and self.left < SOON

    @property
    def urgency(self) -> tuple[int, float]:
        """The less, the sooner it should go on."""
        if self.left is None:
            return 1, self.begun + TOKEN * self.tokens
        return (0 if self.runs_dry else 2), self.left


def most_urgent(standings: Sequence[Standing], most: int | None) -> list[int]:
    """The places of those that a step is for, in their order.

    most: of a step; None: no bound. A prompt takes a forward of its own, so one at most is in a
    step with others.
    """
    if most is None or all(standing.left is None for standing in standings):
        return [*range(len(standings))]
    chosen: list[int] = []
    prompts = 0
    for place in sorted(range(len(standings)), key=lambda place: standings[place].urgency):
        is_prompt = standings[place].tokens == 0
        if len(chosen) < most and not (is_prompt and prompts):
            chosen.append(place)
            prompts += is_prompt
    return sorted(chosen)


@dataclass
class StepCosts:
    """How long a step takes for so many replies: a fixed part, and a part for each of them.

    Fitted to the steps of late by least squares, each weighing MEMORY times as much as the next.
    """

    _sums: list[float] = field(default_factory=lambda: [0.0] * 5)

    def took(self, replies: int, seconds: float) -> None:
        """A step for so many replies took so long."""
        new = 1.0, replies, seconds, replies * replies, replies * seconds
        self._sums = [MEMORY * old + value for old, value in zip(self._sums, new, strict=True)]

    def most(self) -> int | None:
        """The most replies of a step that ends within STEP_SECONDS, or takes no more than twice its
        fixed part; None while that is unknown or there is no such bound."""
        weight, replies, seconds, squares, products = self._sums
        spread = weight * squares - replies * replies
        if spread <= 1e-6 * weight * squares:  # always as many
            return None
        each = (weight * products - replies * seconds) / spread
        if each <= 0:
            return None
        fixed = max(0.0, (seconds - each * replies) / weight)
        return max(1, int(max(STEP_SECONDS - fixed, fixed) / each))
