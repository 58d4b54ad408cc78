"""The value that passes between the parts of the model: a padded batch of sequences.

Shape legend, used in every module:

    B  batch                 M  log-mel frames (100 Hz)      F  encoder frames (50 Hz)
    D  encoder width         P  speech positions, F // k     T  LLM positions
    H  LLM width             N  response tokens              S  unit-decoder steps, N * upsample
    K  number of units       U  units of a reply             W  waveform samples (16 kHz)

Weights live in modules; everything that a part remembers between two calls lives in a state
value that the caller keeps. One set of weights can so serve many sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Frames:
    """A padded batch of sequences; what lies beyond a length is padding and means nothing.

    values: [B, T, width] float; lengths: [B] int64, each at most T.
    """

    values: Tensor
    lengths: Tensor

    @classmethod
    def padded(cls, sequences: Sequence[Tensor]) -> Frames:
        """[length, width] each, one or more -> one batch."""
        lengths = torch.tensor([len(one) for one in sequences], device=sequences[0].device)
        return cls(nn.utils.rnn.pad_sequence(list(sequences), batch_first=True), lengths)

    @property
    def mask(self) -> Tensor:
        """[B, T] bool, True where a frame is real."""
        return lengths_to_mask(self.lengths, self.values.shape[1])

    def sequence(self, row: int) -> Tensor:
        """[length, width]: one sequence of the batch without its padding."""
        return self.values[row, : int(self.lengths[row])]


def lengths_to_mask(lengths: Tensor, size: int) -> Tensor:
    """[B] int64 -> [B, size] bool, True at the first `lengths` places of each row."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]
