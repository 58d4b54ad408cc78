"""Part 2 of 5: stack k frames and map them to the LLM's width, or to its own token embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.values import Frames


@dataclass(frozen=True, kw_only=True)
class SpeechAdapterConfig:
    """The published adapter: k = 5 frames, 2048 hidden (LLaMA-Omni, arXiv 2409.06666).

    vocabulary: of how many of the LLM's tokens a position is a mixture (`TokenMixture`); 0 gives
    the LLM what the last layer makes, as published.
    """

    stack: int = 5  # k, frames per LLM position: 50 Hz -> 10 Hz
    hidden: int = 2048
    vocabulary: int = 0

    def __post_init__(self) -> None:
        if self.vocabulary < 0:
            raise ValueError(
                f"speech_adapter.vocabulary={self.vocabulary}: must be 0 (none) or more"
            )
        for name in ("stack", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"speech_adapter.{name}={getattr(self, name)}: must be at least 1")

    def positions(self, frames: int) -> int:
        """Frames -> LLM positions; what does not fill a group of k at the end is dropped."""
        return frames // self.stack


class SpeechAdapter(nn.Module):
    """Linear(k*D -> hidden), ReLU, Linear(hidden -> H), and a mixture of tokens if there is one."""

    def __init__(self, config: SpeechAdapterConfig, *, input_width: int, output_width: int) -> None:
        super().__init__()
        self.config = config
        self.linear1 = nn.Linear(config.stack * input_width, config.hidden)
        self.linear2 = nn.Linear(config.hidden, output_width)
        size = config.vocabulary
        self.mixture = TokenMixture(size, output_width) if size else None

    def forward(self, frames: Frames, embed: Callable[[Tensor], Tensor] | None = None) -> Frames:
        """[B, F, D] -> [B, F // k, H]; lengths likewise.

        embed: [V] token ids -> [V, H], the LLM's. Raises ValueError if a mixture lacks it.
        """
        heard = self.stacked(frames)
        if self.mixture is None:
            return heard
        if embed is None:
            raise ValueError("embed=None: a mixture of tokens needs the LLM's embeddings")
        return Frames(self.mixture(heard.values, embed(self.mixture.token_ids)), heard.lengths)

    def stacked(self, frames: Frames) -> Frames:
        """[B, F, D] -> [B, F // k, H]: what the layers make of k frames each."""
        k = self.config.stack
        batch, size, width = frames.values.shape
        groups = size // k
        stacked = frames.values[:, : groups * k].reshape(batch, groups, k * width)  # [B, P, k*D]
        return Frames(self.linear2(F.relu(self.linear1(stacked))), frames.lengths // k)


class TokenMixture(nn.Module):
    """What was heard as a mixture of the LLM's own token embeddings, and of one for no token.

    Scores are products with the embeddings, as CTC aligned them (`omni-train align`); what the LLM
    reads at a position is the mean of the embeddings under their softmax. So a word that was heard
    clearly is the very embedding that the LLM has for it in writing.
    """

    token_ids: Tensor

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.register_buffer("token_ids", torch.zeros(vocabulary, dtype=torch.long))
        self.blank = nn.Parameter(torch.zeros(width))  # what no token sounds like
        self.silence = nn.Parameter(torch.zeros(width))  # what the LLM reads there
        # Products of an untrained adapter and small embeddings tell no two tokens apart.
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(vocabulary + 1))

    def begin(self, token_ids: Tensor, embeddings: Tensor) -> None:
        """For training: of these tokens [V], whose embeddings [V, H] the LLM has."""
        self.token_ids.copy_(token_ids)
        with torch.no_grad():
            self.blank.copy_(embeddings.float().mean(0))
            self.silence.copy_(self.blank)

    def go_on(self, other: TokenMixture) -> None:
        """For training: with what another has learnt, whose tokens are the first of these."""
        known = len(other.token_ids)
        with torch.no_grad():
            for name in ("blank", "silence", "log_scale"):
                getattr(self, name).copy_(getattr(other, name))
            self.bias[:known] = other.bias[:known]
            self.bias[-1] = other.bias[-1]

    def scores(self, heard: Tensor, embeddings: Tensor) -> Tensor:
        """[..., H] and [V, H] -> [..., V + 1], the blank last."""
        table = torch.cat([embeddings.to(heard.dtype), self.blank[None].to(heard.dtype)])
        # The scale goes to the narrower factor: a product has thousands of columns.
        return F.linear(self.log_scale.exp() * heard, table, self.bias)

    def forward(self, heard: Tensor, embeddings: Tensor) -> Tensor:
        """[..., H] and [V, H] -> [..., H], a mixture at each position."""
        shares = self.scores(heard, embeddings).float().softmax(-1).to(heard.dtype)
        return shares @ torch.cat([embeddings, self.silence[None]]).to(heard.dtype)


def splice(embeddings: Tensor, slots: Tensor, speech: Frames) -> Tensor:
    """Put speech positions where the prompt has its slots, row by row, in order.

    embeddings: [B, T, H]; slots: [B, T] bool; speech: [R, P, H], one row per recording, in the
    order in which their slots stand in the batch.
    Raises ValueError if the number of slots and of speech positions differ.
    """
    flat = speech.values[speech.mask]  # [sum of lengths, H]
    if int(slots.sum()) != flat.shape[0]:
        raise ValueError(
            f"{int(slots.sum())} speech slots in input_ids, {flat.shape[0]} speech positions from "
            "the audio: build both with the same OmniProcessor"
        )
    spliced = embeddings.clone()
    spliced[slots] = flat.to(embeddings.dtype)
    return spliced
