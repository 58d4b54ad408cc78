"""A vocoder with its losses: spectra, pitch, durations, and what discriminators say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EvalPrediction

from omni.audio import SAMPLES_PER_FRAME
from omni.vocoder import MAX_F0, MIN_F0, NsfVocoder, Vocoder, frame_phases
from train.data import added
from train.voice.discriminators import Discriminators
from train.voice.losses import SpectralLoss

RECONSTRUCTION = ("stft", "mel", "f0", "voiced", "duration")
ADVERSARIAL = ("adversarial", "features", "discriminators")


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """The weighted sum that is minimised; the order is that of the reported parts."""

    stft: float = 1.0
    mel: float = 2.0
    f0: float = 2.0
    voiced: float = 0.5
    duration: float = 0.5
    # As published beside 45 of mel's: 1 of what deceives, 2 of what the layers see.
    adversarial: float = added(2 / 45)
    features: float = added(4 / 45)
    discriminators: float = added(2 / 45)


class LearnsToSound(nn.Module):
    """The vocoder with its losses; the source is driven by the true pitch.

    discriminators: None trains by reconstruction alone. They hear of each crop the frames within
    its edges, what does not count as silence.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        weights: LossWeights,
        discriminators: Discriminators | None = None,
        *,
        edge_frames: int = 0,
    ) -> None:
        super().__init__()
        self.vocoder = vocoder
        self.spectral = SpectralLoss()
        self.weights = weights
        self.discriminators = discriminators
        self._edge = edge_frames * SAMPLES_PER_FRAME

    @property
    def part_names(self) -> tuple[str, ...]:
        """Of the losses, in the order that they are reported in."""
        return RECONSTRUCTION + (() if self.discriminators is None else ADVERSARIAL)

    def forward(
        self,
        units: Tensor,
        labels: Tensor,
        counts: Tensor,
        f0: Tensor,
        voiced: Tensor,
        phase: Tensor,
        first_frame: Tensor,
        merged: Tensor,
        merged_lengths: Tensor,
        durations: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """The losses of a batch of crops: of each crop, and of these the mean (over all batches
        of a step, if their number is given).

        units [B, F], labels [B, F * 320] the true waveform, counts [B, F] bool (False: context
        or padding), f0 [B, F] Hz, voiced [B, F] bool, phase [B] cycles and first_frame [B] of the
        source; merged [B, U] and durations [B, U] of the whole recordings.
        Returns the loss and its parts [B, P], unweighted, in the order of `part_names`.
        """
        if isinstance(self.vocoder, NsfVocoder):
            prosody = self.vocoder.prosody(units)
            true_f0 = f0.double().clamp(MIN_F0, MAX_F0)
            phases = frame_phases(true_f0) + phase[:, None]
            harmonic, noise = self.vocoder.excite(true_f0, voiced.float(), phases, first_frame)
            made = self.vocoder.decode(self.vocoder.features(units), harmonic, noise)
            f0_loss = _masked_mean((prosody.log_f0 - f0.log()).abs(), counts & voiced)
            voiced_loss = _masked_mean(
                F.binary_cross_entropy_with_logits(
                    prosody.voiced, voiced.float(), reduction="none"
                ),
                counts,
            )
        else:
            made = self.vocoder(units)
            f0_loss = voiced_loss = made.new_zeros(len(made))
        heard = counts.repeat_interleave(SAMPLES_PER_FRAME, dim=1)
        made = made.float()
        # Outside, the truth stands in: windows that reach over the border stay meaningful.
        stft, mel = self.spectral(torch.where(heard, made, labels), labels)
        known = torch.arange(merged.shape[1], device=merged.device) < merged_lengths[:, None]
        log_durations = self.vocoder.log_durations(merged, known).float()
        duration = _masked_mean((log_durations - (durations + 1.0).log()) ** 2, known)
        parts = [stft, mel, f0_loss, voiced_loss, duration]
        if self.discriminators is not None:
            inner = slice(self._edge, labels.shape[1] - self._edge)
            told = self.discriminators.judge((made * heard)[:, inner], (labels * heard)[:, inner])
            parts += [told.adversarial, told.features, told.discriminators]
        table = torch.stack(parts, dim=1)
        weights = [getattr(self.weights, name) for name in self.part_names]
        number = len(table) if num_items_in_batch is None else num_items_in_batch
        loss = (table * torch.tensor(weights, device=table.device)).sum() / number
        return {"loss": loss, "parts": table.detach()}


def mean_parts(names: Sequence[str], prediction: EvalPrediction) -> dict[str, float]:
    """Trainer's metrics hook: each part of the loss, unweighted."""
    return dict(zip(names, np.asarray(prediction.predictions).mean(axis=0).tolist(), strict=True))


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """[B, F] -> [B]: of each row's values where the mask is True, 0 where it is nowhere."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)
