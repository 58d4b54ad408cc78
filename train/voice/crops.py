"""What a vocoder trains on: crops of recordings, with units, pitch and durations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from omni.audio import SAMPLES_PER_FRAME, load_audio
from omni.vocoder import merge
from train.loop import Item
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
