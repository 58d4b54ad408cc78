"""Which examples come when: the same steps for any number of processes and accumulated batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from torch.utils.data import Sampler

from omni.files import ALONE, Share

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """Which example, in which pass: all that augmentation may depend on beside the seed."""

    epoch: int
    index: int


class BucketSampler(Sampler[Item]):
    """Shuffles by (seed, epoch), then sorts windows by length: batches waste little padding.

    Every `size` items belong together; only the last ones may be fewer.
    """

    def __init__(self, lengths: Sequence[int], size: int, *, seed: int, window: int = 50) -> None:
        self._lengths = np.asarray(lengths)
        self.size = size
        self._window = window * size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[Item]:
        rng = np.random.default_rng((self._seed, self._epoch))
        order = rng.permutation(len(self._lengths))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), self._window):
            window = order[start : start + self._window]
            window = window[np.argsort(self._lengths[window], kind="stable")]
            batches += [window[i : i + self.size] for i in range(0, len(window), self.size)]
        # A short batch in the middle would shift every border after it: keep it last.
        short = [batch for batch in batches if len(batch) < self.size]
        full = [batch for batch in batches if len(batch) == self.size]
        for number in rng.permutation(len(full)):
            yield from (Item(self._epoch, int(index)) for index in full[number])
        for batch in short:
            yield from (Item(self._epoch, int(index)) for index in batch)


class Dealt(Sampler[list[Item]]):
    """This process's batches: its share of each step's examples, in batches of `batch_size`.

    A step takes the same examples, however many processes and accumulated batches make it up.
    """

    def __init__(self, order: BucketSampler, batch_size: int, share: Share = ALONE) -> None:
        self._order = order
        self._batch_size = batch_size
        self._share = share

    def __len__(self) -> int:
        steps, rest = divmod(len(self._order), self._order.size)
        whole = steps * len(self._deal([*range(self._order.size)]))
        return whole + len(self._deal([*range(rest)]))

    def __iter__(self) -> Iterator[list[Item]]:
        items = list(self._order)
        for start in range(0, len(items), self._order.size):
            yield from self._deal(items[start : start + self._order.size])

    def _deal(self, step: list[T]) -> list[list[T]]:
        """The batches of one step, as many as every other process has."""
        if not step:
            return []
        processes = self._share.size
        if len(step) < processes:
            # Fewer examples than processes: each takes all, which leaves their mean as it is.
            # Where that is too much for a process, they wait for another epoch.
            mine = step if len(step) <= self._order.size // processes else []
            longest = len(mine)
        else:
            if self._batch_size == 1:  # one more example for some would be a batch more for some
                step = step[: len(step) - len(step) % processes]
            mine = [*self._share.of(step)]
            longest = -(-len(step) // processes)
        count = -(-longest // self._batch_size)
        borders = np.linspace(0, len(mine), count + 1).astype(int)
        return [mine[a:b] for a, b in pairwise(borders)]
