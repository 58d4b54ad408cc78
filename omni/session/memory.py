"""What the LLM has been run over: keys and values, and what each of their positions is.

A prompt takes of them what it shares with them from the start; what differs is cut off. Work that
was done ahead and then proves useless needs no other undoing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import Cache

from omni.batching import plain_length

# What stands at a position of the LLM: a token, by its id, or a piece of speech, by what it was
# made of: (number of the recording, samples that it depends on, place). Two positions with the
# same label, behind the same labels, have the same keys and values.
Label = int | tuple[int, int, int]


@dataclass(frozen=True)
class Heard:
    """Adapted speech: positions [P, H], and a label for each."""

    positions: Tensor
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Memory:
    """A cache and the labels of its positions; empty without either."""

    cache: Cache | None = None
    labels: tuple[Label, ...] = ()

    @classmethod
    def of(cls, cache: Cache | None, labels: Sequence[Label]) -> Memory:
        """Of a cache that holds the first of these labels, it knows how many; empty if it can't
        be cut."""
        length = plain_length(cache)
        return cls() if length is None else cls(cache, tuple(labels[:length]))

    def shared(self, labels: Sequence[Label]) -> int:
        """How many of these labels it holds, from the start."""
        both = min(len(self.labels), len(labels))  # either may go on where the other ends
        unlike = (place for place in range(both) if self.labels[place] != labels[place])
        return next(unlike, both)

    def cut(self, length: int) -> Cache | None:
        """The cache with its first `length` positions alone, None without any; it is the caller's
        from now on."""
        if not length:
            return None
        if self.cache is not None and length < len(self.labels):
            self.cache.crop(length - len(self.labels))  # negative: so many positions go
        return self.cache
