"""The values that pass between the stages, and what each stage promises.

Shape legend, used in every module:

    B  batch                 M  log-mel frames (100 Hz)      F  encoder frames (50 Hz)
    D  encoder width         P  speech positions, F // k     T  LLM positions
    H  LLM width             N  response tokens              S  unit-decoder steps, N * upsample
    K  number of units       U  units of a reply             W  waveform samples (16 kHz)

Weights live in modules; everything that a stage remembers between two calls lives in a state
value that the caller keeps. One set of weights can so serve many sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

State = TypeVar("State")


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


@runtime_checkable
class SpeechEncoderStage(Protocol):
    """Log-mel -> frames. Looks both ways: only with attention in blocks it has a `step`."""

    width: int

    def __call__(self, input_features: Tensor, input_features_mask: Tensor) -> Frames:
        """[B, n_mels, M] float, [B, M] bool -> [B, F, D] at 50 Hz."""
        ...


@runtime_checkable
class SpeechAdapterStage(Protocol):
    """Frames -> LLM positions. Works frame group by frame group and remembers nothing."""

    def __call__(self, frames: Frames) -> Frames:
        """[B, F, D] -> [B, P, H]."""
        ...


@runtime_checkable
class UnitDecoderStage(Protocol[State]):
    """LLM states -> unit log-probabilities, causal: a prefix never changes with what follows."""

    upsample: int

    def __call__(self, states: Frames) -> Frames:
        """[B, N, H] -> log-probabilities [B, N * upsample, K + 1]; the last class is the blank."""
        ...

    def initial_state(self, batch: int) -> State: ...

    def step(self, states: Frames, state: State) -> tuple[Frames, State]:
        """The next n states of each row (rows may bring different numbers, also none)."""
        ...


@runtime_checkable
class VocoderStage(Protocol):
    """Merged units -> waveform; see omni/vocoder/streaming.py for the chunked form."""

    sample_rate: int
    samples_per_frame: int
    context_frames: int

    def durations(self, units: Tensor) -> Tensor:
        """[U] int64 -> [U] int64, 20 ms frames per unit, each at least 1."""
        ...

    def synthesize(self, units: Tensor, state: Any = None) -> Tensor:
        """[F] int64 units, one per frame -> [F * samples_per_frame] float in -1..1."""
        ...
