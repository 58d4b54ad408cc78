"""A vocoder of one's own: it renders windows of frames, and streaming comes with it.

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
    context_frames = source_context_frames = recommended_right_context_frames = 0

    def __init__(self, config: TonesConfig) -> None:
        super().__init__()
        self.config, self.num_units = config, config.num_embeddings
        self.dict = nn.Embedding(config.num_embeddings, 16)
        self.dur_predictor = voc.DurationPredictor(16, 16, kernel=3, dropout=0.0)

    @property
    def duration_embedding(self) -> nn.Embedding:
        return self.dict

    def render(
        self, units: Tensor, source: voc.SourceState | None = None, *, first_frame: int = 0
    ) -> voc.Rendering:
        """[F] units -> [F * 320] samples."""
        time = torch.arange(self.samples_per_frame) / self.sample_rate
        waves = torch.sin(2 * torch.pi * (100.0 + 25 * units[:, None]) * time)
        # There is no phase to carry over: 25 Hz steps end every frame where it began.
        return voc.Rendering(
            0.3 * waves.flatten(), torch.zeros(len(units) + 1, dtype=torch.float64)
        )


if __name__ == "__main__":
    vocoder, units = Tones(TonesConfig()).eval(), torch.arange(12)
    streaming = voc.StreamingVocoder(vocoder, voc.Fixed(4), voc.StreamContext.exact(vocoder))
    chunks, state = streaming.step(units.tolist(), streaming.initial_state())
    heard = np.concatenate([chunk.waveform for chunk in [*chunks, *streaming.finish(state)]])
    print(
        f"{len(heard)} samples; as whole: {np.allclose(heard, voc.vocode(vocoder, units).numpy())}"
    )
