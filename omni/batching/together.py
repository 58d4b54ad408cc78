"""Steps of many sequences: in one forward where that can be, else one by one."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from omni.batching.compiled import CompiledSteps, compiled_steps
from omni.batching.grouping import alike
from omni.batching.rows import Row, Rows

log = logging.getLogger(__name__)

# Steps one by one after a batch that failed, until another is tried: what was in its way, as memory
# that somebody else held, may have gone. Each further failure doubles them, up to so many times.
REST, DOUBLINGS = 100, 7

Item = TypeVar("Item")
Placed = TypeVar("Placed", bound=Row[Any])
Outcome = TypeVar("Outcome")


class Together(ABC, Generic[Item, Placed, Outcome]):
    """A part that steps several sequences at a time, each with its past.

    One sequence alone is stepped as it is, without a buffer, unless a compiled step waits for it
    in one. one_by_one: why all are; None where nothing speaks against a batch.
    """

    def __init__(self, part: nn.Module, *, new: int, compiled: bool) -> None:
        """new: positions that a step adds to each sequence of a batch. compiled: whether the
        part's compiled steps are used, where there are any."""
        self.one_by_one: str | None = None
        self._failures = self._rest = 0
        self._part = part
        self._may_be_compiled = compiled
        self._new = new
        self._buffers: list[Rows] = []  # of each group that the last step made

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        return sum(buffer.nbytes for buffer in self._buffers)

    @property
    def compiled(self) -> CompiledSteps | None:
        """The compiled steps that are used; None if there are none."""
        steps = compiled_steps(self._part) if self._may_be_compiled else None
        return steps if steps is not None and steps.sizes else None

    @torch.inference_mode()
    def run(self, items: Sequence[Item]) -> list[Outcome | Exception]:
        """One step of each; of those that fail, why. None can make another fail.

        A sequence that was stepped with others before, and is not now, leaves their buffer.
        """
        if self._rest:
            self._rest -= 1
            self.one_by_one = self.one_by_one if self._rest else None
        compiled = self.compiled
        several = len(items) > 1 or compiled is not None
        rows: dict[int, Placed] = {}
        for place, item in enumerate(items):
            if several and self.one_by_one is None and (row := self.row(item)) is not None:
                rows[place] = row
        places = [*rows]
        groups = [
            [places[index] for index in group]
            for group in alike([rows[place].length for place in places])
            if len(group) > 1 or self._compiled_for(rows[places[group[0]]], compiled)
        ]
        self._have_buffers(len(groups), compiled)
        found: dict[int, Outcome | Exception] = {}
        broken: list[tuple[list[int], Exception]] = []
        for buffer, group in zip(self._buffers, groups, strict=True):
            try:
                order = buffer.hold([rows[place] for place in group], self._new)
                ordered = [group[index] for index in order]
                outcomes = self.together(
                    buffer, [rows[p] for p in ordered], [items[p] for p in ordered]
                )
            except Exception as error:
                broken.append((group, error))
            else:
                for place, outcome in zip(ordered, outcomes, strict=True):
                    rows[place].length += self._new
                    found[place] = outcome
        for place, item in enumerate(items):
            if place not in found:
                found[place] = self._attempt(item)
        for group, error in broken:
            self._judge(error, [found[place] for place in group])
        return [found[place] for place in range(len(items))]

    @abstractmethod
    def row(self, item: Item) -> Placed | None:
        """Its past as a row; None if it must be stepped alone."""

    @abstractmethod
    def alone(self, item: Item) -> Outcome:
        """The step of one, with a past by itself."""

    @abstractmethod
    def together(
        self, buffer: Rows, rows: Sequence[Placed], items: Sequence[Item]
    ) -> list[Outcome]:
        """The step of these, which fill the buffer in this order; their lengths are counted on by
        the caller."""

    def _compiled_for(self, row: Placed, compiled: CompiledSteps | None) -> bool:
        return compiled is not None and compiled.fitting(1, row.length + self._new) is not None

    def _have_buffers(self, number: int, compiled: CompiledSteps | None) -> None:
        for buffer in self._buffers[number:]:
            buffer.hold([], 0)
        del self._buffers[number:]
        missing = number - len(self._buffers)
        self._buffers += [Rows(compiled) for _ in range(missing)]

    def _attempt(self, item: Item) -> Outcome | Exception:
        try:
            return self.alone(item)
        except Exception as error:
            return error

    def _judge(self, error: Exception, alone: Sequence[Outcome | Exception]) -> None:
        """A batch has failed, and its sequences were then stepped alone."""
        if any(isinstance(outcome, Exception) for outcome in alone):
            return  # one of them was the reason, and has been told
        self.one_by_one = f"a batch failed where each alone did not: {error!r}"
        rest = REST * 2 ** min(self._failures, DOUBLINGS)
        self._rest, self._failures = 1 + rest, self._failures + 1
        log.warning("%s; the next %d steps are made one by one", self.one_by_one, rest)
