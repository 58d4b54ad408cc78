"""Speech -> units: features of a frozen encoder's layer, nearest k-means centre, repeats merged.

Lakhotia et al. 2021 ("On Generative Spoken Language Modeling from Raw Audio"). The units of a
reply are what the unit decoder learns to say and what the vocoder speaks.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.audio import log_mel
from omni.checkpoint import (
    CheckpointError,
    build_config,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from omni.errors import UserError
from omni.files import replace_folder
from omni.stages import lengths_to_mask

if TYPE_CHECKING:
    from transformers import HubertModel

    from omni.speech_encoder import SpeechEncoder

Module = TypeVar("Module", bound=nn.Module)

FORMAT_VERSION = 1
HUBERT_WINDOW = 400  # samples that one frame sees; the hop is 320


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
        if self.kind not in FEATURES:
            raise UserError(f"units.kind={self.kind!r}: must be one of {', '.join(FEATURES)}")
        if self.layer < 0:
            raise UserError(f"units.layer={self.layer}: must be 0 or more, counted from 1")
        if self.smooth_frames < 1 or self.smooth_frames % 2 == 0:
            raise UserError(
                f"units.smooth_frames={self.smooth_frames}: must be odd, so that a frame lies in "
                "the middle; 1 does not smooth"
            )


class Features(Protocol):
    """Waveforms -> features of one layer; each waveform comes out as if alone."""

    def __call__(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """[samples] float at 16 kHz each -> [F, D] float32 each, 50 Hz."""
        ...


class SpeechEncoderFeatures:
    """A layer of our SpeechEncoder: F = encoder_frames(mel_frames(samples)), 320 samples each."""

    def __init__(self, encoder: SpeechEncoder, config: UnitsConfig) -> None:
        _check_layer(config, len(encoder.layers))
        # The layers above and the last norm would be computed for nothing.
        self._encoder = _with_children(
            encoder, layers=encoder.layers[: config.layer], layer_norm=nn.Identity()
        ).eval()
        self._normalize = config.normalize_waveform

    @torch.no_grad()
    def __call__(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        mels = [
            log_mel(_waveform(samples, self._normalize), self._encoder.config.n_mels)
            for samples in waveforms
        ]
        lengths = torch.tensor([mel.shape[1] for mel in mels])
        longest = int(lengths.max()) + int(lengths.max()) % 2  # the second convolution halves
        features = torch.stack([F.pad(mel, (0, longest - mel.shape[1])) for mel in mels])
        device = self._encoder.conv1.weight.device
        mask = lengths_to_mask(lengths, longest).to(device)
        frames = self._encoder(features.to(device), mask)
        return [frames.sequence(row).float() for row in range(len(mels))]


class HubertFeatures:
    """A layer of transformers' HubertModel: F = (samples - 400) // 320 + 1."""

    def __init__(self, encoder: HubertModel, config: UnitsConfig) -> None:
        _check_layer(config, len(encoder.encoder.layers))
        children: dict[str, nn.Module] = {"layers": encoder.encoder.layers[: config.layer]}
        if encoder.config.do_stable_layer_norm:
            # In these the norm follows the last layer; in the others it precedes the first.
            children["layer_norm"] = nn.Identity()
        shortened = _with_children(encoder.encoder, **children)
        self._encoder = _with_children(encoder, encoder=shortened).eval()
        self._normalize = config.normalize_waveform

    @torch.no_grad()
    def __call__(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        if (shortest := min(map(len, waveforms))) < HUBERT_WINDOW:
            raise UserError(
                f"{shortest} samples of audio: HuBERT needs at least {HUBERT_WINDOW} (25 ms); "
                "leave out recordings without speech"
            )
        weight = next(self._encoder.parameters())
        # One by one: the first GroupNorm measures over time, so padding would leak into it.
        return [
            self._encoder(_waveform(samples, self._normalize)[None].to(weight))
            .last_hidden_state[0]
            .float()
            for samples in waveforms
        ]


FEATURES = {"speech_encoder": SpeechEncoderFeatures, "hubert": HubertFeatures}


class UnitExtractor:
    """Waveforms -> frame units. centroids: [K, D]; encoder: of the config's kind, frozen."""

    def __init__(self, config: UnitsConfig, centroids: Tensor, encoder: nn.Module) -> None:
        self.config = config
        self.centroids = centroids.float()
        self._half_squares = self.centroids.square().sum(-1) / 2  # [K]
        self._encoder = encoder
        self._features = features_of(config, encoder)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> UnitExtractor:
        """Moves the encoder, in place; the centroids follow the features, which are float32."""
        self._encoder.to(device, dtype)
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
            write_json(
                aside / "config.json", {"format_version": FORMAT_VERSION, **asdict(self.config)}
            )
            write_tensors(aside / "centroids.safetensors", {"centroids": self.centroids})

    @classmethod
    def load(
        cls, folder: str | Path, *, encoder: nn.Module | None = None, layer: int | None = None
    ) -> UnitExtractor:
        """Read a units folder.

        encoder: None loads a HuBERT by the name and revision that the folder states: a folder in
            it, or whatever `load_hubert` takes. layer: instead of the one that it states.
        Raises UserError if a file is missing or not as written, or if no encoder is given where
        the kind needs one.
        """
        folder = Path(folder)
        config, centroids = _read(folder)
        if layer is not None:
            config = replace(config, layer=layer)
        if encoder is None:
            if config.kind != "hubert":
                raise UserError(
                    f"{folder}: its units are features of {config.name!r}; load that speech "
                    "encoder and give it as encoder="
                )
            from omni.bases import load_hubert

            inside = folder / config.name
            source = str(inside) if inside.exists() else config.name
            encoder = load_hubert(source, revision=config.revision)
        return cls(config, centroids, encoder)


def features_of(config: UnitsConfig, encoder: nn.Module) -> Features:
    """The config's features, smoothed: what k-means is fitted on and units are read from."""
    layer_features = FEATURES[config.kind](encoder, config)

    def smoothed(waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        return [smooth(frames, config.smooth_frames) for frames in layer_features(waveforms)]

    return smoothed


def smooth(features: Tensor, frames: int) -> Tensor:
    """[F, D] -> [F, D]: each frame becomes the mean of `frames` around it; fewer at the ends."""
    if frames == 1:
        return features
    mean = F.avg_pool1d(
        features.T[None], frames, stride=1, padding=frames // 2, count_include_pad=False
    )
    return mean[0].T


def _read(folder: Path) -> tuple[UnitsConfig, Tensor]:
    """A units folder's two files, checked."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no units folder; fit the k-means first, or check the path")
    record = read_json(folder / "config.json")
    centroids = read_tensors(folder / "centroids.safetensors").get("centroids")
    if centroids is None:
        raise CheckpointError(f"{folder}/centroids.safetensors: no centroids; copy it again")
    version = record.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder}/config.json: format_version={version}, this release reads {FORMAT_VERSION}"
        )
    config = build_config(UnitsConfig, record, where=f"{folder}/config.json")
    if centroids.ndim != 2:
        raise UserError(f"{folder}: centroids of shape {tuple(centroids.shape)}; must be [K, D]")
    return config, centroids


def _check_layer(config: UnitsConfig, layers: int) -> None:
    if config.layer > layers:
        raise UserError(f"units.layer={config.layer}: {config.name} has {layers} layers")


def _waveform(samples: np.ndarray, normalize: bool) -> Tensor:
    waveform = torch.as_tensor(samples, dtype=torch.float32)
    return F.layer_norm(waveform, waveform.shape) if normalize else waveform


def _with_children(module: Module, **children: nn.Module) -> Module:
    """A shallow copy with other children; the weights are shared, the original is untouched."""
    other = copy.copy(module)
    other._modules = {**module._modules, **children}
    return other
