"""Which part of a common work a process does, and that no other run does it at the same time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from omni.files.errors import UserError

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


@contextmanager
def held(path: Path) -> Generator[None]:
    """Holds a file that is appended to against a second run, by a lock beside it that ends with
    the process, however it ends.

    Raises UserError if another run holds it.
    """
    with path.with_name(path.name + ".lock").open("w") as lock:
        # Workers are forks: one that outlives a killed run for a moment must not keep its lock.
        os.register_at_fork(after_in_child=lock.close)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{path}: another run is working on it; wait for it, or choose another output"
            ) from None
        yield
