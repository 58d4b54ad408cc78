"""Questions -> frames of the frozen speech encoder, ahead of stage 1 and on another machine.

Fills the folder that stage 1 takes as its cache: with the same encoder, augmentation and seed it
finds everything there and encodes nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch

from data_tools.manifest import Manifest
from data_tools.speech import AugmentConfig, load_augmented
from omni.config import OmniConfig
from omni.files import UserError
from omni.frame_cache import FrameCache, cache_frames
from omni.processor import OmniProcessor
from omni.speech_encoder import SpeechEncoder


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """augmented: splits that get `variants` augmented variants beside the clean one; clean: splits
    that get the clean one alone. pad_to_window: for published weights, which always heard 30 s.
    dtype: that matrices are multiplied in.
    """

    augmented: tuple[str, ...] = ("train",)
    clean: tuple[str, ...] = ("validation",)
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)
    variants: int = 4
    seed: int = 1  # stage 1's
    pad_to_window: bool = False
    batch_size: int = 32
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.variants < 0:
            raise UserError(f"variants={self.variants}: must be at least 0; 0 is clean alone")


def extract_features(
    manifest: Manifest, encoder: SpeechEncoder, folder: Path, config: FeaturesConfig | None = None
) -> FrameCache:
    """Encodes the users' recordings by length, on the device where the encoder lies.

    A killed run loses the batch in hand. Raises UserError if there are no recordings, and if the
    folder was made with another encoder, augmentation or seed.
    """
    config = config or FeaturesConfig()
    training = recordings(manifest, config.augmented)
    if not training:
        raise UserError(
            f"{manifest}: no recorded question in split {' or '.join(config.augmented)}; "
            "speak the data set first, or name another split"
        )
    settings = OmniConfig(
        audio_config=encoder.config.to_whisper(), pad_to_window=config.pad_to_window
    )
    return cache_frames(
        encoder,
        OmniProcessor(None, settings),  # pyright: ignore[reportArgumentType]  # hears, reads no text
        training,
        clean_only=recordings(manifest, config.clean),
        load=partial(load_augmented, seed=config.seed, config=config.augmentation),
        augmentation=asdict(config.augmentation),
        variants=config.variants,
        seed=config.seed,
        folder=folder,
        batch_size=config.batch_size,
        dtype=config.dtype,
    )


def recordings(manifest: Manifest, splits: Collection[str]) -> list[Path]:
    """Every recording of a user in these splits, once."""
    paths = [
        manifest.audio_path(turn)
        for record in manifest.records
        if record.split in splits
        for turn in record.turns
        if turn.role == "user" and turn.speech is not None
    ]
    return list(dict.fromkeys(paths))
