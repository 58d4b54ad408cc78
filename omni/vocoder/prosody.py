"""Pitch and voicing of the light vocoder, predicted from the units."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from omni.vocoder.exact_copy import ExactCopy
from omni.vocoder.nsf_config import NsfConfig
from omni.vocoder.nsf_layers import AheadState, look_ahead, look_ahead_step, residual_blocks
from omni.vocoder.source import MAX_F0, MIN_F0
from omni.vocoder.stream_layers import Signal

LOG_F0_CENTRE, LOG_F0_SCALE = 5.0, 0.4  # of human voices, in log Hz: 148 Hz, a fifth up or down


@dataclass(frozen=True)
class Prosody:
    """log_f0: [B, F] log Hz at the frames' starts, also where unvoiced; voiced: [B, F] logits."""

    log_f0: Tensor
    voiced: Tensor

    def pitch(self) -> Tensor:
        """[B, 2, F]: F0 in Hz, within what a voice has, and how far it is voiced, 0..1."""
        f0 = self.log_f0.exp().clamp(MIN_F0, MAX_F0)
        return torch.stack([f0, self.voiced.sigmoid()], dim=1)


class ProsodyPredictor(nn.Module):
    """Units -> pitch and voicing, apart from the trunk so that it can be run in float64."""

    def __init__(self, config: NsfConfig) -> None:
        super().__init__()
        width = config.prosody_width
        self.ahead = config.ahead[1]
        self.embedding = nn.Embedding(config.num_units, width)
        self.blocks = residual_blocks(config, width, config.prosody_dilations, normalise=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2)
        self._exact: ExactCopy[ProsodyPredictor] = ExactCopy()

    def forward(self, units: Tensor) -> Prosody:
        """[B, F] int64, one unit per frame."""
        # bfloat16 would round pitch by half a percent.
        with torch.autocast(units.device.type, enabled=False):
            return self._read(look_ahead(self.blocks, self.embedding(units), self.ahead))

    @property
    def exact(self) -> ProsodyPredictor:
        """The same in float64: the phase adds F0 up over the whole reply, and a difference in the
        seventh place between a chunk and the whole would be heard by its 40th harmonic."""
        return self._exact.of(self)

    def initial_state(self, batch: int) -> AheadState:
        """Of `step`."""
        return AheadState(self.blocks.initial_state(batch), self.ahead)

    def step(
        self, units: Signal, state: AheadState, spare: int | None
    ) -> tuple[Signal, AheadState]:
        """Units [B, F] -> `Prosody.pitch` [B, 2, F]; as `SameConv.step`."""
        x = units.map(lambda values: self.embedding(values).transpose(1, 2))
        x, state = look_ahead_step(self.blocks, x, state, self.ahead, spare)
        return x.map(lambda values: self._read(values.transpose(1, 2)).pitch()), state

    def _read(self, x: Tensor) -> Prosody:
        log_f0, voiced = self.head(self.norm(x)).unbind(-1)
        return Prosody(log_f0 * LOG_F0_SCALE + LOG_F0_CENTRE, voiced)
