"""What the model hears in training: log-mel made on the fly, or the frozen encoder's output cached.

The encoder never changes, so what it makes of a recording is computed once per augmented variant
and read back in every epoch and by both stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol

from torch import Tensor

from data_tools.speech import AugmentConfig, load_augmented
from omni.files import ALONE, Share
from omni.frame_cache import CLEAN, FrameCache, cache_frames
from omni.processor import OmniProcessor
from omni.speech_encoder import SpeechEncoder
from train.loop import Item


class Ears(Protocol):
    """How a recording comes into a batch."""

    encoded: bool  # whether `hear` gives encoder frames [F, D] or log-mel [n_mels, M]

    def variant(self, item: Item) -> int:
        """Which augmentation this example gets in this epoch; 0 is none."""
        ...

    def hear(self, recording: Path, variant: int) -> Tensor:
        """Log-mel [n_mels, M], or encoder frames [F, D] where `encoded`."""
        ...

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
        """Another one in each epoch, or the clean one where nothing is augmented."""
        return 1 + item.epoch if self._augmentation is not None else CLEAN

    def hear(self, recording: Path, variant: int) -> Tensor:
        """Log-mel [n_mels, M] of the recording, augmented as (seed, recording, variant) say."""
        return self._processor.features(
            load_augmented(recording, variant, seed=self._seed, config=self._augmentation)
        )

    def positions(self, heard: Tensor) -> int:
        """LLM positions of a log-mel."""
        return self._processor.positions(heard.shape[1])


class CachedEars:
    """The frozen encoder's frames, read from a cache with `variants` augmentations and the clean
    recording; the epochs take them in turn."""

    encoded = True

    def __init__(self, cache: FrameCache, *, variants: int, stack: int) -> None:
        self._cache = cache
        self._variants = variants
        self._stack = stack

    def variant(self, item: Item) -> int:
        """All cached ones in turn over the epochs, the clean one among them."""
        return (item.epoch + item.index) % (self._variants + 1)

    def hear(self, recording: Path, variant: int) -> Tensor:
        """Encoder frames [F, D] of the recording, read from the cache."""
        return self._cache.frames(recording, variant)

    def positions(self, heard: Tensor) -> int:
        """LLM positions of encoder frames."""
        return heard.shape[0] // self._stack


def cached_ears(
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
    share: Share = ALONE,
) -> CachedEars:
    """Ears with a cache that is filled first, or was by `omni-data features`."""
    cache = cache_frames(
        encoder,
        processor,
        recordings,
        clean_only=clean_only,
        load=partial(load_augmented, seed=seed, config=augmentation),
        augmentation=asdict(augmentation),
        variants=variants,
        seed=seed,
        folder=folder,
        batch_size=batch_size,
        share=share,
    )
    return CachedEars(cache, variants=variants, stack=processor.config.adapter.stack)
