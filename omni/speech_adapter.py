"""Part 2 of 5: stack k frames and map them to the LLM's width."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from omni.values import Frames


@dataclass(frozen=True, kw_only=True)
class SpeechAdapterConfig:
    """The published adapter: k = 5 frames, 2048 hidden (LLaMA-Omni, arXiv 2409.06666)."""

    stack: int = 5  # k, frames per LLM position: 50 Hz -> 10 Hz
    hidden: int = 2048

    def __post_init__(self) -> None:
        for name in ("stack", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"speech_adapter.{name}={getattr(self, name)}: must be at least 1")

    def positions(self, frames: int) -> int:
        """Frames -> LLM positions; what does not fill a group of k at the end is dropped."""
        return frames // self.stack


class SpeechAdapter(nn.Module):
    """Linear(k*D -> hidden), ReLU, Linear(hidden -> H)."""

    def __init__(self, config: SpeechAdapterConfig, *, input_width: int, output_width: int) -> None:
        super().__init__()
        self.config = config
        self.linear1 = nn.Linear(config.stack * input_width, config.hidden)
        self.linear2 = nn.Linear(config.hidden, output_width)

    def forward(self, frames: Frames) -> Frames:
        """[B, F, D] -> [B, F // k, H]; lengths likewise."""
        k = self.config.stack
        batch, size, width = frames.values.shape
        groups = size // k
        stacked = frames.values[:, : groups * k].reshape(batch, groups, k * width)  # [B, P, k*D]
        return Frames(self.linear2(F.relu(self.linear1(stacked))), frames.lengths // k)


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
