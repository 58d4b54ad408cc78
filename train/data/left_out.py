"""What an example of training leaves out, drawn anew in every epoch: it has to be filled in."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from omni.prompt import Message

MASKED_SPAN = 5  # encoder frames, 0.1 s: one LLM position at the usual stack


def mask_spans(frames: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """[F, D] with about `share` of the frames zeroed, in spans: SpecAugment's time masks (Park et
    al. 2019) on what the encoder made, so that the LLM learns to fill in what it did not catch."""
    spans = rng.binomial(len(frames) // MASKED_SPAN, share)
    masked = frames.clone()
    for start in rng.integers(0, max(1, len(frames) - MASKED_SPAN + 1), spans):
        masked[start : start + MASKED_SPAN] = 0.0
    return masked


def thinned(said: Sequence[Message], share: float, rng: np.random.Generator) -> list[Message]:
    """The conversation without that share of what the user has written, word by word (Iyyer et al.
    2015): who has not seen every word of a sentence does not learn it by heart. One word stays."""

    def thin(text: str) -> str:
        words = text.split()
        kept = rng.random(len(words)) >= share
        if len(words) and not kept.any():
            kept[rng.integers(len(words))] = True
        return " ".join(word for word, stays in zip(words, kept, strict=True) if stays)

    return [
        replace(message, text=thin(message.text))
        if message.role == "user" and message.positions is None
        else message
        for message in said
    ]
