"""CTC between unit-decoder steps and units (Graves et al. 2006): loss, feasibility, collapse.

The blank is always the last class, K, so that class k < K is unit k.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from omni.values import Frames


def required_frames(units: Sequence[int]) -> int:
    """The fewest steps that can spell `units`: one each, and a blank between equal neighbours."""
    return len(units) + sum(left == right for left, right in pairwise(units))


@dataclass(frozen=True, kw_only=True)
class Infeasible:
    """A training pair without any CTC path: its loss is infinite, its gradient nothing."""

    key: Hashable
    needed: int  # steps that its units ask for
    available: int  # steps that its text gives

    def __str__(self) -> str:
        return (
            f"{self.key}: its units need {self.needed} steps and its response has "
            f"{self.available}; shorten the speech or raise the unit decoder's `upsample`"
        )


def infeasible(pairs: Iterable[tuple[Hashable, Sequence[int], int]]) -> list[Infeasible]:
    """Find what CTC cannot learn, before training: `zero_infinity` would hide it.

    pairs: (key, units, available steps), the steps being response tokens * upsample.
    """
    return [
        Infeasible(key=key, needed=needed, available=available)
        for key, units, available in pairs
        if (needed := required_frames(units)) > available
    ]


def ctc_loss(
    log_probs: Frames,
    targets: Tensor,
    target_lengths: Tensor,
    number: Tensor | int | None = None,
) -> Tensor:
    """The mean loss per unit: the batch's sum over the batch's number of units, or over `number`,
    the units of all batches of a step.

    log_probs: [B, S, K + 1] float32 log-probabilities; targets: [B, U] int64, padded with
    anything; target_lengths: [B] int64. An infeasible pair adds nothing to the sum, yet its units
    count, as in LLaMA-Omni's public code: find such pairs first with `infeasible`.
    Raises ValueError if the batch has no units at all or a unit outside 0..K-1.
    """
    blank = log_probs.values.shape[-1] - 1
    real = torch.arange(targets.shape[1], device=targets.device) < target_lengths[:, None]
    units = targets[real]
    if units.numel() == 0:
        raise ValueError("no units in the batch: CTC needs a target; leave silent responses out")
    if int(units.min()) < 0 or int(units.max()) >= blank:
        raise ValueError(
            f"units from {int(units.min())} to {int(units.max())}: this decoder knows 0 to "
            f"{blank - 1}; label the speech with the unit extractor that belongs to it"
        )
    total = F.ctc_loss(
        # float32: CTC sums over many paths, and bfloat16 loses the small ones.
        log_probs.values.float().transpose(0, 1),
        targets.masked_fill(~real, 0),
        log_probs.lengths,
        target_lengths,
        blank=blank,
        reduction="sum",
        zero_infinity=True,
    )
    return total / (units.numel() if number is None else number)


def best_labels(log_probs: Frames) -> Tensor:
    """[B, S, K + 1] -> [B, S] int64: the best class of each step; padding becomes blank."""
    blank = log_probs.values.shape[-1] - 1
    return log_probs.values.argmax(-1).masked_fill(~log_probs.mask, blank)


@dataclass(frozen=True)
class CollapseState:
    """What collapsing remembers between two chunks."""

    previous: int  # last label of the chunk before; the blank at the start


def initial_collapse_state(blank: int) -> CollapseState:
    """At the start, as after a blank, every unit is new."""
    return CollapseState(previous=blank)


def collapse(
    labels: Sequence[int] | Tensor, state: CollapseState, blank: int
) -> tuple[list[int], CollapseState]:
    """Merge repeats, then drop blanks; a unit held across a chunk border is spoken once.

    labels: [S] best label of each step of one row, 0..blank.
    Raises ValueError if a label is outside that range.
    """
    units: list[int] = []
    previous = state.previous
    for label in labels.tolist() if isinstance(labels, Tensor) else labels:
        if not 0 <= label <= blank:
            raise ValueError(f"label {label}: must be 0..{blank}, the last one being the blank")
        if label not in (previous, blank):
            units.append(label)
        previous = label
    return units, CollapseState(previous)


def best_units(log_probs: Frames) -> list[list[int]]:
    """[B, S, K + 1] -> each row's units: greedy decoding of whole replies."""
    blank = log_probs.values.shape[-1] - 1
    start = initial_collapse_state(blank)
    return [collapse(row, start, blank)[0] for row in best_labels(log_probs).cpu()]
