"""Which answers the unit decoder can learn to say: those with units that fit into its steps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from omni.ctc import Infeasible, infeasible
from omni.files import UserError
from omni.processor import OmniProcessor
from train.data.batches import Example

log = logging.getLogger(__name__)
NAMED = 3  # infeasible pairs that an error or a warning names


@dataclass(frozen=True, kw_only=True)
class Limits:
    """units: K of the decoder; upsample: its steps per token; share: of the pairs without a CTC
    path that may be left out."""

    units: int
    upsample: int
    share: float


def units_of(example: Example) -> list[int]:
    """The answer's units; none where it has not been encoded."""
    return list(example.answer.units or ())


def infeasible_pairs(
    items: Sequence[Example], processor: OmniProcessor, upsample: int
) -> list[Infeasible]:
    """Examples whose units do not fit into `upsample` steps per response token."""

    def steps(example: Example) -> int:
        # How many positions the speech takes does not matter here: 1 each will do.
        prompt = processor.prompt(example.messages([1] * len(example.recordings)))
        return (len(prompt.ids) - prompt.response_start) * upsample

    return infeasible((item.id, units_of(item), steps(item)) for item in items)


def speakable(items: list[Example], processor: OmniProcessor, limits: Limits) -> list[Example]:
    """The examples that CTC can learn. Raises UserError where that is not nearly all."""
    silent = [item.id for item in items if not item.answer.units]
    if silent:
        raise UserError(
            f"{len(silent)} of {len(items)} answers have no units, {silent[0]} first; fill them in "
            "with `omni-train units`, or leave these records out"
        )
    highest = max(max(units_of(item)) for item in items)
    if highest >= limits.units:
        raise UserError(
            f"unit {highest} in the manifest: this recipe's decoder knows 0 to {limits.units - 1}; "
            "give the number of units of the extractor that labelled it"
        )
    bad = infeasible_pairs(items, processor, limits.upsample)
    if not bad:
        return items
    share = len(bad) / len(items)
    named = "; ".join(str(pair) for pair in bad[:NAMED])
    if share > limits.share:
        raise UserError(
            f"{len(bad)} of {len(items)} pairs ({share:.1%}) have no CTC path, at most "
            f"{limits.share:.1%} may; raise `upsample` (now {limits.upsample}). {named}"
        )
    log.warning("%d of %d pairs have no CTC path and are left out: %s", len(bad), len(items), named)
    left_out = {pair.key for pair in bad}
    return [item for item in items if item.id not in left_out]
