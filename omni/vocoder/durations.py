"""How long each merged unit lasts: the predictor of unit HiFi-GAN (FastSpeech's, two layers)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.vocoder.exact_copy import ExactCopy


class DurationPredictor(nn.Module):
    """Unit embeddings -> log(duration + 1), each from `lookahead` units on both sides."""

    def __init__(self, width: int, hidden: int, kernel: int, dropout: float) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"duration kernel {kernel}: must be odd, so that it has a centre")
        padding = kernel // 2
        self.conv1 = nn.Sequential(nn.Conv1d(width, hidden, kernel, padding=padding), nn.ReLU())
        self.ln1 = nn.LayerNorm(hidden)
        self.conv2 = nn.Sequential(nn.Conv1d(hidden, hidden, kernel, padding=padding), nn.ReLU())
        self.ln2 = nn.LayerNorm(hidden)
        self.proj = nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(dropout)
        self.lookahead = 2 * padding
        self._exact: ExactCopy[DurationPredictor] = ExactCopy()

    def forward(self, embedded: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, U, width], [B, U] bool (None: nothing is padding) -> log(duration + 1) [B, U]."""
        x = embedded
        for conv, norm in ((self.conv1, self.ln1), (self.conv2, self.ln2)):
            if mask is not None:
                # A padded row must see zeros beyond its end, as a row alone would.
                x = x * mask[..., None]
            x = self.dropout(norm(conv(x.transpose(1, 2)).transpose(1, 2)))
        return self.proj(x).squeeze(-1)

    @torch.no_grad()
    def frames(self, embedding: nn.Embedding, units: Tensor) -> Tensor:
        """[U] int64 -> [U] int64, frames per unit: exp(log) - 1, half to even, at least 1.

        In float64: a window of units then rounds as the whole reply does, so that streaming never
        changes the timing.
        """
        if len(units) == 0:
            return torch.zeros(0, dtype=torch.int64, device=units.device)
        embedded = F.embedding(units, embedding.weight).double()
        log_durations = self._exact.of(self)(embedded[None])[0]
        return torch.round(torch.exp(log_durations) - 1).clamp(min=1).long()


def merge(frame_units: Tensor) -> tuple[Tensor, Tensor]:
    """[F] units, one per frame -> merged units [U] and how many frames each lasts [U]."""
    return torch.unique_consecutive(frame_units, return_counts=True)
