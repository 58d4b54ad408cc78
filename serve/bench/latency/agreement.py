"""Both must say the same: an algorithm that is quicker because it says something else is no use."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from omni.values import Frames
from serve.bench.latency.answer import Answer, Asked
from serve.bench.latency.reference import Reference

# Two scores that are closer than this may change places, for sums in another order round otherwise.
# The law of every streaming stage says 1e-3 (float32); half types keep three digits of scores up to
# 10 or so.
TIES = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}


def check_same(reference: Reference, asked: Asked, expected: Answer, found: Answer) -> bool:
    """Whether text and units are the reference's, as far as both go; else RuntimeError.

    True: equal. False: they part where the reference's two best scores are a tie, and each is what
    the reference may say. Sound may have stopped the two at different tokens.
    """
    length = min(len(expected.token_ids), len(found.token_ids))
    shorter, longer = sorted((expected, found), key=lambda answer: len(answer.token_ids))
    units = longer.units
    if len(shorter.token_ids) < len(longer.token_ids):
        units = units[: len(shorter.units)]  # of the tokens that both have
    if expected.token_ids[:length] == found.token_ids[:length] and shorter.units == units:
        return True
    for answer, whose in ((expected, "the reference"), (found, "the session")):
        if (reason := _unlike(reference, asked, answer)) is not None:
            raise RuntimeError(
                f"{whose} says something else than one forward over everything: {reason}. Neither "
                "may change what is said. This is a defect of omni: please report it"
            )
    return False


def _unlike(reference: Reference, asked: Asked, answer: Answer) -> str | None:
    """Why one forward over everything can't have said this; None if it can."""
    logits, log_probs = reference.scores(asked.waveform, answer.token_ids)
    tie = TIES[logits.dtype]
    for place, token in enumerate(answer.token_ids):
        missing = float(logits[place].max() - logits[place, token])
        if missing > tie:
            return f"token {token} at place {place} scores {missing:.3g} below the best"
    if not may_spell(answer.units, log_probs, tie):
        return f"{len(answer.units)} units are not those of its {len(answer.token_ids)} tokens"
    return None


def may_spell(units: Sequence[int], log_probs: Frames, tie: float) -> bool:
    """Whether the best labels, merged, are these units, where labels that tie may stand for it.

    log_probs: [1, S, K + 1], the blank last.
    """
    scores = log_probs.values[0].float()
    blank = scores.shape[-1] - 1
    near = scores >= scores.amax(-1, keepdim=True) - tie  # [S, K + 1]
    ways = {(0, blank)}  # units spelled, and the label before
    for step in near:
        ways = {
            (spelled + (label not in (previous, blank)), label)
            for label in step.nonzero().flatten().tolist()
            for spelled, previous in ways
            if label in (previous, blank) or units[spelled : spelled + 1] == (label,)
        }
    return any(spelled == len(units) for spelled, _ in ways)
