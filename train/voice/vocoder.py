"""An own voice: a vocoder trained on recordings of one speaker and their frame-level units.

Both kinds train on reconstruction alone (spectra, pitch, durations). Adversarial training, with
which the published unit HiFi-GAN was made, is not here yet: expect a duller sound of that kind.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import EvalPrediction

from omni.audio import SAMPLES_PER_FRAME, load_audio
from omni.files import UserError, digest_of, files_digest
from omni.vocoder import (
    MAX_F0,
    MIN_F0,
    VOCODERS,
    HifiGanConfig,
    NsfConfig,
    NsfVocoder,
    Vocoder,
    frame_phases,
    merge,
    save_vocoder,
)
from train.data import plain
from train.loop import Item, LoopConfig, begin_run, check_installed, filled, train
from train.voice.losses import SpectralLoss
from train.voice.pitch import track_f0

TOLERATED_FRAMES = 2  # by which units and waveform may differ in length: extractors round


@dataclass(frozen=True)
class UnitClip:
    """A recording and its units, one per 20 ms frame, repeats not merged."""

    path: Path
    frame_units: np.ndarray  # [F] integer


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """What a training example is."""

    frames: int = 50  # that count in the loss, 1 s
    edge_frames: int = 4  # on each side: heard by the vocoder, not by the loss


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """The weighted sum that is minimised; the order is that of the reported parts."""

    stft: float = 1.0
    mel: float = 2.0
    f0: float = 2.0
    voiced: float = 0.5
    duration: float = 0.5


PARTS = ("stft", "mel", "f0", "voiced", "duration")


class VocoderForReconstruction(nn.Module):
    """The vocoder with its losses; the source is driven by the true pitch."""

    def __init__(self, vocoder: Vocoder, weights: LossWeights) -> None:
        super().__init__()
        self.vocoder = vocoder
        self.spectral = SpectralLoss()
        self.weights = weights

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
        Returns the loss and its parts [B, 5], unweighted, in the order of PARTS.
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
        # Outside, the truth stands in: windows that reach over the border stay meaningful.
        stft, mel = self.spectral(torch.where(heard, made.float(), labels), labels)
        known = torch.arange(merged.shape[1], device=merged.device) < merged_lengths[:, None]
        log_durations = self.vocoder.log_durations(merged, known).float()
        duration = _masked_mean((log_durations - (durations + 1.0).log()) ** 2, known)
        parts = torch.stack([stft, mel, f0_loss, voiced_loss, duration], dim=1)
        weights = torch.tensor(astuple(self.weights), device=parts.device)
        number = len(parts) if num_items_in_batch is None else num_items_in_batch
        return {"loss": (parts * weights).sum() / number, "parts": parts.detach()}


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """[B, F] -> [B]: of each row's values where the mask is True, 0 where it is nowhere."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


@dataclass(frozen=True)
class _Prepared:
    """A clip as it is kept in memory; int16 halves it."""

    waveform: np.ndarray  # [F * 320] int16
    units: np.ndarray  # [F] int64
    f0: np.ndarray  # [F] float32 Hz
    voiced: np.ndarray  # [F] bool


class Crops(Dataset[dict[str, torch.Tensor]]):
    """One crop of each clip, its place a function of (seed, epoch, index); clips stay in memory."""

    def __init__(
        self, clips: list[UnitClip], *, num_units: int, crop: CropConfig, seed: int
    ) -> None:
        for clip in clips:
            if len(clip.frame_units) == 0:
                raise ValueError(f"{clip.path}: has no units; leave it out or extract them again")
            low, high = int(clip.frame_units.min()), int(clip.frame_units.max())
            if low < 0 or high >= num_units:
                raise ValueError(
                    f"{clip.path}: units from {low} to {high}, but the vocoder knows 0 to "
                    f"{num_units - 1}; give the configuration the k-means' own number of units"
                )
        self._clips = clips
        self._crop = crop
        self._seed = seed
        self._prepared: dict[int, _Prepared] = {}

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, item: Item | int) -> dict[str, Tensor]:
        place = item if isinstance(item, Item) else Item(0, item)
        if place.index not in self._prepared:
            self._prepared[place.index] = _prepare(self._clips[place.index])
        clip = self._prepared[place.index]
        rng = np.random.default_rng((self._seed, place.epoch, place.index))
        edge, frames = self._crop.edge_frames, len(clip.units)
        size = self._crop.frames + 2 * edge
        # Drawn over the ends and moved inside: drawn from inside alone, a recording's first and
        # last sounds would hardly ever count.
        drawn = int(rng.integers(edge + 1 - size, frames - edge))
        start = min(max(drawn, 0), max(0, frames - size))
        taken = slice(start, start + size)
        short = max(0, size - frames)  # a clip shorter than a crop is padded at its end
        counts = np.ones(size, dtype=bool)
        # At the recording's own ends there is no context to miss.
        counts[: edge if start else 0] = False
        counts[size - (short if start + size >= frames else edge) :] = False
        waveform = clip.waveform[start * SAMPLES_PER_FRAME : (start + size) * SAMPLES_PER_FRAME]
        merged, durations = merge(torch.from_numpy(clip.units))
        return {
            "units": torch.from_numpy(np.pad(clip.units[taken], (0, short), mode="edge")),
            "labels": torch.from_numpy(
                np.pad(waveform, (0, short * SAMPLES_PER_FRAME)).astype(np.float32) / 32768
            ),
            "counts": torch.from_numpy(counts),
            "f0": torch.from_numpy(np.pad(clip.f0[taken], (0, short), mode="edge")),
            "voiced": torch.from_numpy(np.pad(clip.voiced[taken], (0, short))),
            "phase": torch.tensor(rng.random()),
            "first_frame": torch.tensor(start),
            "merged": merged,
            "durations": durations,
        }


def _prepare(clip: UnitClip) -> _Prepared:
    waveform = load_audio(clip.path)
    frames = len(clip.frame_units)
    if abs(len(waveform) - frames * SAMPLES_PER_FRAME) > TOLERATED_FRAMES * SAMPLES_PER_FRAME:
        raise ValueError(
            f"{clip.path}: {frames} units, but {len(waveform)} samples are "
            f"{len(waveform) / SAMPLES_PER_FRAME:.1f} frames of 20 ms; "
            "units must be one per frame, not merged, and of this very file"
        )
    length = frames * SAMPLES_PER_FRAME
    waveform = np.pad(waveform, (0, max(0, length - len(waveform))))[:length]
    f0, voiced = track_f0(waveform)
    pcm = (np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
    return _Prepared(pcm, clip.frame_units.astype(np.int64), f0, voiced)


def collate(examples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Crops are of one size; merged sequences are padded to the longest."""
    ragged = ("merged", "durations")
    batch = {
        name: torch.stack([example[name] for example in examples])
        for name in examples[0]
        if name not in ragged
    }
    for name in ragged:
        batch[name] = nn.utils.rnn.pad_sequence([e[name] for e in examples], batch_first=True)
    batch["merged_lengths"] = torch.tensor([len(example["merged"]) for example in examples])
    return batch


def mean_parts(prediction: EvalPrediction) -> dict[str, float]:
    """Trainer's metrics hook: each part of the loss, unweighted."""
    return dict(zip(PARTS, np.asarray(prediction.predictions).mean(axis=0).tolist(), strict=True))


def in_tune(loop: LoopConfig) -> LoopConfig:
    """The same in float32 where DeepSpeed or FSDP would cast the weights themselves.

    Log F0 has steps of half a semitone in bfloat16; autocast, which is used elsewhere, spares it.
    Raises UserError if another type is asked for.
    """
    if loop.deepspeed is None and loop.fsdp is None:
        return loop
    if loop.dtype not in ("auto", "float32"):
        raise UserError(
            f"dtype={loop.dtype!r}: a vocoder trains in float32 under DeepSpeed and FSDP; leave "
            "one of the two options out"
        )
    return replace(loop, dtype="float32")


def train_vocoder(
    clips: list[UnitClip],
    validation: list[UnitClip],
    *,
    architecture: HifiGanConfig | NsfConfig,
    loop: LoopConfig,
    output: Path,
    crop: CropConfig | None = None,
    weights: LossWeights | None = None,
    restart: bool = False,
) -> dict[str, float]:
    """Train, and leave the vocoder in `output/vocoder`.

    Resumes from what `output` holds; restart: removes that first.
    Raises ValueError for clips whose units are unknown to the architecture or do not fit the
    recording's length, and UserError if `output` holds a run of something else. Returns the
    validation's loss and its parts.
    """
    check_installed(loop)
    loop = in_tune(loop)
    crop, weights = crop or CropConfig(), weights or LossWeights()
    heard = [*clips, *validation]
    run = begin_run(
        output,
        "vocoder",
        {
            "data": {
                "clips": {"train": len(clips), "validation": len(validation)},
                "units": digest_of([clip.frame_units.tolist() for clip in heard]),
                "recordings": files_digest(clip.path for clip in heard),
            },
            "recipe": {
                "architecture": plain(architecture),
                "loop": plain(loop),
                "crop": plain(crop),
                "weights": plain(weights),
            },
        },
        product="vocoder",
        also_writes=("checkpoint-*", "runs"),
        restart=restart,
    )
    if run.result is not None:
        return run.result
    torch.manual_seed(loop.seed)  # of the first weights
    vocoder = VOCODERS[architecture.kind](architecture)
    module = VocoderForReconstruction(vocoder, weights)
    result = train(
        module,
        config=loop,
        output=output,
        dataset=Crops(clips, num_units=vocoder.num_units, crop=crop, seed=loop.seed),
        lengths=[crop.frames] * len(clips),
        collate=collate,
        count=lambda batch: len(batch["units"]),
        validation=(
            Crops(validation, num_units=vocoder.num_units, crop=crop, seed=loop.seed)
            if validation
            else None
        ),
        metrics=mean_parts,
        finish=lambda weights: save_vocoder(
            filled(VOCODERS[architecture.kind](architecture), weights, "vocoder"),
            output / "vocoder",
        ),
    )
    return run.finish(result)
