"""Keys and values of several sequences in one buffer, where one forward reads and extends them all.

A sequence has its keys and values to itself while it is alone, and a row of a buffer while it is
stepped with others. It joins and leaves by a copy of what it holds.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from omni.batching.compiled import CompiledSteps

Own = TypeVar("Own")
Layers = Sequence[tuple[Tensor, Tensor]]  # keys and values of each, [heads, length, head_dim]

POSITIONS = 64  # a buffer's capacity is a multiple of it
SLOTS = 4  # and its number of rows of this


class Row(ABC, Generic[Own]):
    """Keys and values of one sequence. length: its positions."""

    def __init__(self, own: Own, length: int) -> None:
        self.length = length
        self._own: Own | None = own
        self._buffer: Rows | None = None

    def own(self) -> Own:
        """By themselves; the row leaves the buffer that it is in."""
        if self._buffer is not None:
            self._buffer.release(self)
        assert self._own is not None
        return self._own

    def within(self, buffer: Rows) -> bool:
        """Whether they lie in this buffer."""
        return self._buffer is buffer

    def move_in(self, buffer: Rows) -> None:
        """They were copied into this buffer, and are nowhere else from now on."""
        self._buffer, self._own = buffer, None

    def move_out(self, layers: Layers) -> None:
        """They leave the buffer; `layers` are views of what it holds of them."""
        self._buffer, self._own = None, self.copied(layers)

    @abstractmethod
    def layers(self, own: Own) -> Layers:
        """What a buffer copies."""

    @abstractmethod
    def copied(self, layers: Layers) -> Own:
        """Copies, by themselves."""


class Rows:
    """A buffer, with a row for each sequence that is stepped in it.

    keys, values: [layers, slots, heads, capacity, head_dim]; row i holds its sequence from the
    first position on, and zeros behind it. What a sequence that is gone has left is overwritten by
    the next. The buffer grows and shrinks with what it has to hold.
    """

    def __init__(self, compiled: CompiledSteps | None = None) -> None:
        """compiled: the buffer has the smallest of their sizes that fits, where one does."""
        self.keys = self.values = torch.empty(0, 0, 0, 0, 0)
        self._compiled = compiled
        # Weak: a reply that nobody holds any more need not be copied out.
        self._members: list[weakref.ref[Row[Any]]] = []

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.keys.nbytes + self.values.nbytes

    @torch.inference_mode()
    def hold(self, wanted: Sequence[Row[Any]], new: int) -> list[int]:
        """Have these rows and no others, and room for so many positions more of each.

        Returns the order that they lie in: row i is wanted[order[i]].
        """
        for member in [*self._members]:
            row = member()
            if row is None:
                self._close(self._members.index(member))
            elif not any(row is one for one in wanted):
                self.release(row)
        if wanted:
            self._fit(wanted, max(row.length for row in wanted) + new)
        else:
            self._replace(torch.empty(0, 0, 0, 0, 0), torch.empty(0, 0, 0, 0, 0))
        for row in wanted:
            if not row.within(self):
                self._join(row)
        places = {id(row): place for place, row in enumerate(wanted)}
        return [places[id(member())] for member in self._members]

    def filled(self) -> tuple[Tensor, Tensor]:
        """Views of the rows that are taken, [layers, rows, heads, capacity, head_dim]."""
        taken = len(self._members)
        return self.keys[:, :taken], self.values[:, :taken]

    @torch.inference_mode()
    def release(self, row: Row[Any]) -> None:
        """The row leaves, and takes a copy of its keys and values along."""
        place = next(i for i, member in enumerate(self._members) if member() is row)
        held = slice(0, row.length)
        row.move_out(
            [
                (keys[place, :, held], values[place, :, held])
                for keys, values in zip(self.keys, self.values, strict=True)
            ]
        )
        self._close(place)

    def _join(self, row: Row[Any]) -> None:
        place, length = len(self._members), row.length
        for index, (keys, values) in enumerate(row.layers(row.own())):
            for stored, fresh in ((self.keys, keys), (self.values, values)):
                stored[index, place, :, :length] = fresh
                # Attention multiplies what it must not see by 0, and 0 * NaN would be NaN.
                stored[index, place, :, length:] = 0.0
        row.move_in(self)
        self._members.append(weakref.ref(row))

    def _close(self, place: int) -> None:
        """The last row moves into this place, so that those that are taken lie side by side."""
        last = len(self._members) - 1
        if place < last:
            self.keys[:, place] = self.keys[:, last]
            self.values[:, place] = self.values[:, last]
        self._members[place] = self._members[last]
        del self._members[last]

    def _fit(self, wanted: Sequence[Row[Any]], positions: int) -> None:
        steps = self._compiled
        size = None if steps is None else steps.fitting(len(wanted), positions)
        slots, capacity = size or (
            _fitting(self.keys.shape[1], len(wanted), SLOTS),
            # Half to spare: a buffer is copied when it grows, and every step makes it longer.
            _fitting(self.keys.shape[3], positions, POSITIONS, spare=positions // 2),
        )
        if (slots, capacity) == (self.keys.shape[1], self.keys.shape[3]):
            return
        taken, held = len(self._members), min(capacity, self.keys.shape[3])
        if steps is not None and size is not None:
            moved = steps.take(size)
        else:
            if taken:
                like, layers = self.keys[0, 0], self.keys.shape[0]
            else:
                of_first = wanted[0].layers(wanted[0].own())
                like, layers = of_first[0][0], len(of_first)
            heads, _, head_dim = like.shape
            shape = layers, slots, heads, capacity, head_dim
            moved = like.new_zeros(shape), like.new_zeros(shape)
        if taken:
            for old, new in zip((self.keys, self.values), moved, strict=True):
                new[:, :taken, :, :held] = old[:, :taken, :, :held]
        self._replace(*moved)

    def _replace(self, keys: Tensor, values: Tensor) -> None:
        """Another buffer from now on; one of a compiled step's size can serve the next."""
        if self._compiled is not None:
            self._compiled.give((self.keys, self.values))
        self.keys, self.values = keys, values


def _fitting(there: int, needed: int, block: int, spare: int = 0) -> int:
    """A size for what is needed: the one that is there, if it is neither too small nor four times
    too large; else whole blocks, with so many to spare."""
    if needed <= there <= 4 * max(needed, block):
        return there
    return -(-(needed + spare) // block) * block
