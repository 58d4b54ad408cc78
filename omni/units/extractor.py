"""Speech -> units: features of a frozen encoder's layer, nearest k-means centre, repeats merged.

Lakhotia et al. 2021 ("On Generative Spoken Language Modeling from Raw Audio"). The units of a
reply are what the unit decoder learns to say and what the vocoder speaks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from omni.files import CheckpointError, UserError, read_tensors, replace_folder, write_tensors
from omni.units.config import UnitsConfig, merge_repeats, read_units_config, write_units_config
from omni.units.features import features_of


class UnitExtractor:
    """Waveforms -> frame units. centroids: [K, D]; encoder: of the config's kind, frozen."""

    def __init__(self, config: UnitsConfig, centroids: Tensor, encoder: nn.Module) -> None:
        self.config = config
        self.centroids = centroids.float()
        self._half_squares = self.centroids.square().sum(-1) / 2  # [K]
        self.encoder = encoder
        self._features = features_of(config, encoder)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> UnitExtractor:
        """Moves the encoder, in place; the centroids follow the features, which are float32."""
        self.encoder.to(device, dtype)
        return self

    @property
    def units(self) -> int:
        """K, how many different units there are."""
        return len(self.centroids)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with the centroids and with what the features are."""
        digest = hashlib.sha256(self.centroids.cpu().numpy().tobytes())
        digest.update(json.dumps(asdict(self.config), sort_keys=True).encode())
        return digest.hexdigest()[:16]

    def extract(self, waveform: np.ndarray) -> np.ndarray:
        """[samples] at 16 kHz -> [F] int64 units, one per 20 ms frame."""
        return self.extract_batch([waveform])[0]

    def extract_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The same for several waveforms, each as if alone."""
        return [self.nearest(features).cpu().numpy() for features in self._features(waveforms)]

    def extract_merged(self, waveform: np.ndarray) -> np.ndarray:
        """[samples] at 16 kHz -> [U] int64 units, repeats merged: the unit decoder's target."""
        return merge_repeats(self.extract(waveform))

    def nearest(self, features: Tensor) -> Tensor:
        """[F, D] -> [F] int64: the nearest centroid, Euclidean."""
        if features.shape[-1] != self.centroids.shape[1]:
            raise UserError(
                f"features of {self.config.name} are {features.shape[-1]} wide, the centroids "
                f"{self.centroids.shape[1]}: they belong to another encoder; fit them again"
            )
        centroids = self.centroids.to(features.device)
        # |x - c|^2 = |x|^2 - 2 (x.c - |c|^2 / 2), and |x| is the same for every c.
        return (features @ centroids.T - self._half_squares.to(features.device)).argmax(-1)

    def save(self, folder: str | Path) -> None:
        """Write config.json and centroids.safetensors; aside first, then renamed."""
        with replace_folder(folder) as aside:
            write_units_config(self.config, aside)
            write_tensors(aside / "centroids.safetensors", {"centroids": self.centroids})

    @classmethod
    def load(
        cls, folder: str | Path, *, encoder: nn.Module, layer: int | None = None
    ) -> UnitExtractor:
        """Read a units folder; omni.checkpoint.load_units finds the encoder by its name, too.

        encoder: of the kind that the folder states. layer: instead of the one that it states.
        Raises UserError if a file is missing or not as written.
        """
        config = read_units_config(folder)
        if layer is not None:
            config = replace(config, layer=layer)
        return cls(config, _read_centroids(Path(folder)), encoder)


def _read_centroids(folder: Path) -> Tensor:
    """[K, D]"""
    path = folder / "centroids.safetensors"
    centroids = read_tensors(path).get("centroids")
    if centroids is None:
        raise CheckpointError(f"{path}: no centroids; copy it again")
    if centroids.ndim != 2:
        raise UserError(f"{folder}: centroids of shape {tuple(centroids.shape)}; must be [K, D]")
    return centroids
