"""A vocoder of one's own: it says what the next frames sound like, and streaming comes with it.

    python examples/vocoder.py

This one plays a tone per unit. `context_frames` says how far a frame's samples depend on others;
here on none, so that chunks of any size join without a seam.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from omni import vocoder as voc


@dataclass(frozen=True, kw_only=True)
class TonesConfig:
    kind: ClassVar[str] = "tones"
    num_embeddings: int = 50


class Tones(voc.Vocoder):
    kind = "tones"
    context_frames = recommended_right_context_frames = 0

    def __init__(self, config: TonesConfig) -> None:
        super().__init__()
        self.config, self.num_units = config, config.num_embeddings
        self.dict = nn.Embedding(config.num_embeddings, 16)
        self.dur_predictor = voc.DurationPredictor(16, 16, kernel=3, dropout=0.0)

    @property
    def duration_embedding(self) -> nn.Embedding:
        return self.dict

    def initial_state(self, batch: int = 1) -> None:
        """Nothing is kept: 25 Hz steps end every frame where it began."""

    def step(
        self, units: Tensor, state: None, *, spare_frames: int | None = None
    ) -> tuple[voc.Signal, None]:
        """[B, F] units -> [B, F * 320] samples, all of them final at once."""
        time = torch.arange(self.samples_per_frame) / self.sample_rate
        waves = 0.3 * torch.sin(2 * torch.pi * (100.0 + 25 * units[..., None]) * time)
        samples = waves.flatten(1)
        return voc.Signal(samples, samples.shape[1], None if spare_frames is None else 0), None


if __name__ == "__main__":
    vocoder, units = Tones(TonesConfig()).eval(), torch.arange(12)
    streaming = voc.StreamingVocoder(vocoder, voc.Fixed(4), voc.StreamContext.exact(vocoder))
    chunks, state = streaming.step(units.tolist(), streaming.initial_state())
    heard = np.concatenate([chunk.waveform for chunk in [*chunks, *streaming.finish(state)]])
    print(
        f"{len(heard)} samples; as whole: {np.allclose(heard, voc.vocode(vocoder, units).numpy())}"
    )
