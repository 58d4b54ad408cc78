"""Which features units are read from, as a units folder states it: pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from omni.files import CheckpointError, UserError, build_config, read_json, write_json

FORMAT_VERSION = 1
KINDS = ("speech_encoder", "hubert")


def merge_repeats(units: Sequence[int] | np.ndarray) -> np.ndarray:
    """[F] units, one per frame -> [U] int64: each run of equal units becomes one."""
    frames = np.asarray(units, dtype=np.int64)
    return frames[np.insert(frames[1:] != frames[:-1], 0, True)] if frames.size else frames


@dataclass(frozen=True, kw_only=True)
class UnitsConfig:
    """Which features the centroids live in; the encoder is named, never copied."""

    kind: Literal["speech_encoder", "hubert"]
    name: str  # hub id, folder or file of the encoder; of an injected one, what errors call it
    layer: int  # features after this layer, 1-based; 0: before the first layer
    revision: str = "main"  # of a hub id
    smooth_frames: int = 1  # features are averaged over this many frames, against jitter
    normalize_waveform: bool = False  # zero mean, unit variance first, as large HuBERTs expect

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"units.kind={self.kind!r}: must be one of {', '.join(KINDS)}")
        if self.layer < 0:
            raise UserError(f"units.layer={self.layer}: must be 0 or more, counted from 1")
        if self.smooth_frames < 1 or self.smooth_frames % 2 == 0:
            raise UserError(
                f"units.smooth_frames={self.smooth_frames}: must be odd, so that a frame lies in "
                "the middle; 1 does not smooth"
            )


def read_units_config(folder: str | Path) -> UnitsConfig:
    """A units folder's config.json. Raises UserError if it is missing or not as written."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(f"{folder}: no units folder; fit the k-means first, or check the path")
    record = read_json(path)
    version = record.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version={version}, this release reads {FORMAT_VERSION}"
        )
    return build_config(UnitsConfig, record, where=str(path))


def write_units_config(config: UnitsConfig, folder: str | Path) -> None:
    """Write the config.json of a units folder that is there."""
    write_json(Path(folder) / "config.json", {"format_version": FORMAT_VERSION, **asdict(config)})
