"""From logits to the next token: greedy, or drawn from the nucleus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import TopKLogitsWarper, TopPLogitsWarper


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """temperature 0 takes the best token; above it, tokens are drawn from the top_p nucleus of
    the top_k best (0: of all)."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:  # so that NaN is refused too
            raise ValueError(f"temperature={self.temperature}: must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: must be above 0 and at most 1")
        if self.top_k < 0:
            raise ValueError(f"top_k={self.top_k}: must be 0 (all tokens) or more")

    @classmethod
    def stored(cls, generation_config: object) -> Sampling:
        """What a checkpoint's generation settings ask for, as transformers' `generate` reads them.

        do_sample, temperature, top_p and top_k count; a value that is not named is transformers'
        default. Penalties, beams and the other ways of choosing are for `generate` alone.
        """
        if not getattr(generation_config, "do_sample", None):
            return cls()

        def named(name: str, default: float) -> float:
            value = getattr(generation_config, name, None)
            return default if value is None else value

        return cls(
            temperature=named("temperature", 1.0),
            top_p=named("top_p", 1.0),
            top_k=int(named("top_k", 50)),
        )

    def generator(self) -> torch.Generator:
        """A fresh source of randomness for one reply."""
        return torch.Generator().manual_seed(self.seed)


def best_tokens(logits: Sequence[Tensor]) -> list[int | None]:
    """[vocabulary] logits of each reply -> its best token, None where a logit is NaN.

    The device is waited for once, however many replies there are.
    """
    if not logits:
        return []
    best = [row.max(dim=0) for row in logits]  # the maximum of what holds NaN is NaN
    found = torch.stack([ids.masked_fill(values.isnan(), -1) for values, ids in best])
    return [None if token < 0 else token for token in found.tolist()]


def choose(logits: Tensor, best: int | None, sampling: Sampling, generator: torch.Generator) -> int:
    """[vocabulary] logits -> one token id (nucleus sampling: Holtzman et al. 2020).

    best: what `best_tokens` says of them. Raises ArithmeticError if a logit is NaN: whatever came
    of it would be said as if it were meant.
    """
    if best is None:
        raise ArithmeticError(
            "the language model's logits are NaN: its weights or this conversation's state are "
            "broken; load the checkpoint in float32 or bfloat16 and start the conversation anew"
        )
    if sampling.temperature == 0:
        return best
    scores = (logits.float() / sampling.temperature)[None]
    ids: Any = torch.empty(1, 0)  # the reply so far, which neither looks at
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(ids, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(ids, scores)
    drawn = torch.multinomial(scores.softmax(-1)[0].cpu(), 1, generator=generator)
    return int(drawn)
