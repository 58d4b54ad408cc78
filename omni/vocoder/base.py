"""What every vocoder promises to streaming, to training and to the folder on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from omni.audio import SAMPLE_RATE, SAMPLES_PER_FRAME
from omni.vocoder.durations import DurationPredictor, predict_durations


@dataclass(frozen=True)
class SourceState:
    """Where the excitation stands: `phase` (cycles, modulo 1, float64) at the start of `frame`."""

    phase: float = 0.0
    frame: int = 0


@dataclass(frozen=True)
class Rendering:
    """The waveform of a window of frames, and the phase at the start of each frame and the end.

    waveform: [F * 320] float32 in -1..1; phases: [F + 1] float64, cycles modulo 1.
    """

    waveform: Tensor
    phases: Tensor


class Vocoder(nn.Module):
    """Merged units -> waveform at 16 kHz.

    context_frames: frames before a frame that can change its samples; as many behind it, unless
        `right_context_frames` says otherwise.
    source_context_frames: frames that can change its phase advance, in the same way.
    recommended_right_context_frames: where cutting the right context stops being heard (measured).
    """

    kind: ClassVar[str]
    config: Any  # the kind's own frozen dataclass
    sample_rate = SAMPLE_RATE
    samples_per_frame = SAMPLES_PER_FRAME
    num_units: int
    context_frames: int
    source_context_frames: int
    recommended_right_context_frames: int
    dur_predictor: DurationPredictor

    @property
    def duration_embedding(self) -> nn.Embedding:
        """The embedding that the duration predictor reads."""
        raise NotImplementedError

    @property
    def right_context_frames(self) -> int:
        """Following frames that can change a frame's samples."""
        return self.context_frames

    @property
    def source_right_context_frames(self) -> int:
        """Following frames that can change a frame's phase advance."""
        return self.source_context_frames

    @property
    def duration_lookahead(self) -> int:
        """Following units that a unit's duration depends on."""
        return self.dur_predictor.lookahead

    @property
    def device(self) -> torch.device:
        """Where the weights lie and units must be."""
        return self.duration_embedding.weight.device

    def log_durations(self, units: Tensor, mask: Tensor) -> Tensor:
        """[B, U] int64, [B, U] bool -> log(duration + 1) [B, U], for training."""
        return self.dur_predictor(self.duration_embedding(units), mask)

    def durations(self, units: Tensor) -> Tensor:
        """[U] int64 -> [U] int64, 20 ms frames per unit, each at least 1."""
        return predict_durations(self.dur_predictor, self.duration_embedding, units)

    def render(
        self, units: Tensor, source: SourceState | None = None, *, first_frame: int = 0
    ) -> Rendering:
        """A window of a reply.

        units: [F] int64, one per frame; first_frame: place of units[0] in the reply.
        source: the phase at some frame of the reply; None: 0 at frame 0.
        """
        raise NotImplementedError

    def synthesize(self, units: Tensor, state: SourceState | None = None) -> Tensor:
        """[F] int64 units, one per frame, of a whole reply -> [F * 320] float in -1..1."""
        return self.render(units, state).waveform

    def check_units(self, units: Tensor) -> None:
        """Raise ValueError for a unit that this vocoder has no sound for."""
        if len(units) and (int(units.min()) < 0 or int(units.max()) >= self.num_units):
            bad = int(units[(units < 0) | (units >= self.num_units)][0])
            raise ValueError(
                f"unit {bad}: this vocoder knows units 0 to {self.num_units - 1}; "
                "use the vocoder that belongs to these units' k-means"
            )


@torch.inference_mode()
def vocode(vocoder: Vocoder, units: Tensor, *, use_durations: bool = True) -> Tensor:
    """The whole reply at once.

    units: [U] int64 merged units, or with use_durations=False [F] units that are one frame each.
    Returns [F * 320] float32. Raises ValueError for an unknown unit.
    """
    vocoder.check_units(units)
    units = units.to(vocoder.device)
    if use_durations:
        units = units.repeat_interleave(vocoder.durations(units))
    if len(units) == 0:
        return torch.zeros(0, device=vocoder.device)
    return vocoder.synthesize(units)
