"""What every vocoder promises to streaming, to training and to the folder on disk."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from omni.audio import SAMPLE_RATE, SAMPLES_PER_FRAME
from omni.vocoder.durations import DurationPredictor
from omni.vocoder.stream_layers import Signal


class Vocoder(nn.Module):
    """Merged units -> waveform at 16 kHz.

    context_frames: frames before a frame that can change its samples; as many behind it, unless
        `right_context_frames` says otherwise.
    recommended_right_context_frames: where cutting the right context stops being heard (measured).
    """

    kind: ClassVar[str]
    config: Any  # the kind's own frozen dataclass
    sample_rate = SAMPLE_RATE
    samples_per_frame = SAMPLES_PER_FRAME
    num_units: int
    context_frames: int
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
        return self.dur_predictor.frames(self.duration_embedding, units)

    def initial_state(self, batch: int = 1) -> Any:
        """What `step` begins a reply with; the kind's own frozen dataclass."""
        raise NotImplementedError

    def step(
        self, units: Tensor, state: Any, *, spare_frames: int | None = None
    ) -> tuple[Signal, Any]:
        """The next frames of a reply -> the samples that they allow, and the state after them.

        units: [B, F] int64, one per frame; F may be 0 where spare_frames is given.
        spare_frames: None if more follows: then the samples are those that nothing can change any
        more, and with those of earlier steps they are all but at most the last
        `right_context_frames` frames. A number: as if the reply ended here, all samples but those
        of the last `spare_frames` frames. Only the final ones among them have been taken: what is
        made of this state afterwards begins behind these.
        Returns the waveform, a `Signal` of [B, W] float32 in -1..1, and the state.
        """
        raise NotImplementedError

    def synthesize(self, units: Tensor) -> Tensor:
        """[F] int64 units, one per frame, of a whole reply -> [F * 320] float32 in -1..1."""
        waveform, _ = self.step(units[None], self.initial_state(), spare_frames=0)
        return waveform.values[0]

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
