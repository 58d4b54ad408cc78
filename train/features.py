"""What the model hears in training: log-mel made on the fly, or the frozen encoder's output cached.

The encoder never changes, so what it makes of a recording is computed once per augmented variant
and read back in every epoch and by both stages.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from data_tools.augment import AugmentConfig, augment, augment_rng
from omni.audio import load_audio
from omni.processor import OmniProcessor, pad_features
from omni.speech_encoder import SpeechEncoder
from train.loop import Item
from train.ragged import RaggedStore, fill

CLEAN = 0  # the variant without augmentation


class Ears(Protocol):
    """How a recording comes into a batch."""

    encoded: bool  # whether `hear` gives encoder frames [F, D] or log-mel [n_mels, M]

    def variant(self, item: Item) -> int:
        """Which augmentation this example gets in this epoch; 0 is none."""
        ...

    def hear(self, recording: Path, variant: int) -> Tensor: ...

    def positions(self, heard: Tensor) -> int:
        """How many LLM positions it takes."""
        ...


class LiveEars:
    """Log-mel of the file, augmented anew in every epoch (never, without `augmentation`)."""

    encoded = False

    def __init__(
        self, processor: OmniProcessor, *, augmentation: AugmentConfig | None, seed: int
    ) -> None:
        self._processor = processor
        self._augmentation = augmentation
        self._seed = seed

    def variant(self, item: Item) -> int:
        return 1 + item.epoch if self._augmentation is not None else CLEAN

    def hear(self, recording: Path, variant: int) -> Tensor:
        waveform = load_audio(recording)
        if variant != CLEAN:
            # By name, not by place: a manifest that grew gives the old recordings the old noise.
            place = zlib.crc32(recording.name.encode())
            rng = augment_rng(self._seed, variant, place)
            waveform = augment(waveform, rng, self._augmentation)
        return self._processor.features(waveform)

    def positions(self, heard: Tensor) -> int:
        return self._processor.positions(heard.shape[1])


class CachedEars:
    """The frozen encoder's frames, read from a cache with `variants` augmentations and the clean
    recording; the epochs take them in turn."""

    encoded = True

    def __init__(
        self, store: RaggedStore, names: dict[Path, str], *, variants: int, stack: int
    ) -> None:
        self._store = store
        self._names = names  # of recordings, in the store's keys
        self._variants = variants
        self._stack = stack

    def variant(self, item: Item) -> int:
        return (item.epoch + item.index) % (self._variants + 1)

    def hear(self, recording: Path, variant: int) -> Tensor:
        return self._store[f"{variant} {self._names[recording]}"].float()

    def positions(self, heard: Tensor) -> int:
        return heard.shape[0] // self._stack


def cache_frames(
    encoder: SpeechEncoder,
    processor: OmniProcessor,
    recordings: Sequence[Path],
    *,
    clean_only: Sequence[Path] = (),
    augmentation: AugmentConfig,
    variants: int,
    seed: int,
    folder: Path,
    batch_size: int = 32,
) -> CachedEars:
    """Encode every recording once clean and `variants` times augmented; `clean_only` just clean.

    A killed run goes on where it stopped. Raises UserError if the folder was made with another
    encoder, augmentation or seed.
    """
    live = LiveEars(processor, augmentation=augmentation, seed=seed)
    sizes = {path: path.stat().st_size for path in (*recordings, *clean_only)}
    # A recording that was made anew is, most often, of another size, and then encoded anew.
    names = {path: f"{size} {path.resolve()}" for path, size in sizes.items()}
    # Recordings of like length share a batch: little padding.
    by_size = sorted(sizes, key=lambda path: (sizes[path], str(path)))
    augmented = set(recordings)
    wanted = [(path, CLEAN) for path in by_size]
    for variant in range(1, variants + 1):
        wanted += [(path, variant) for path in by_size if path in augmented]
    work = {f"{variant} {names[path]}": (path, variant) for path, variant in wanted}
    keys = list(work)
    encoder.eval()

    @torch.no_grad()
    def make(batch: Sequence[str]) -> list[Tensor]:
        device = encoder.conv1.weight.device
        mels = pad_features([live.hear(*work[key]) for key in batch])
        frames = encoder(**{name: value.to(device) for name, value in mels.items()})
        return [frames.sequence(row) for row in range(len(batch))]

    store = fill(
        folder,
        made_of={
            "encoder": weights_digest(encoder),
            "pad_to_window": processor.config.pad_to_window,
            "augmentation": asdict(augmentation),
            "seed": seed,
        },
        batches=[keys[start : start + batch_size] for start in range(0, len(keys), batch_size)],
        make=make,
        width=encoder.width,
        label="encode questions",
    )
    return CachedEars(store, names, variants=variants, stack=processor.config.adapter.stack)


def weights_digest(*modules: nn.Module, **also: Any) -> str:
    """16 hex digits that change with any weight (and with `also`)."""
    digest = hashlib.sha256(repr(sorted(also.items())).encode())
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
