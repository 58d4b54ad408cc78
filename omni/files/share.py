"""Which part of a common work a process does: plain numbers, for nothing here needs a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


def _nobody() -> None:
    """Alone there is nobody to wait for."""


@dataclass(frozen=True)
class Share:
    """One of `size` processes that do the same work together.

    wait: returns when every process has called it. The first process writes what all need.
    """

    rank: int = 0
    size: int = 1
    wait: Callable[[], None] = _nobody

    @property
    def first(self) -> bool:
        """Whether this is the process that writes for all."""
        return self.rank == 0

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """This process's items: every `size`-th, so that neighbours of like cost are spread."""
        return items[self.rank :: self.size]


ALONE = Share()
