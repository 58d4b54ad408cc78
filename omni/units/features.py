"""Waveforms -> features of one layer of a frozen encoder, 50 a second: what units are read from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.files import UserError
from omni.speech_encoder import SpeechEncoder
from omni.units.config import UnitsConfig
from omni.values import lengths_to_mask

if TYPE_CHECKING:
    from transformers import HubertModel


Module = TypeVar("Module", bound=nn.Module)

HUBERT_WINDOW = 400  # samples that one frame sees; the hop is 320


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
        """As one padded batch; padding is masked."""
        mels = [
            self._encoder.config.log_mel(_waveform(samples, self._normalize))
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
        """One by one. Raises UserError for a recording that is shorter than one frame."""
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


FEATURES: dict[str, Callable[[Any, UnitsConfig], Features]] = {
    "speech_encoder": SpeechEncoderFeatures,
    "hubert": HubertFeatures,
}


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


def _check_layer(config: UnitsConfig, layers: int) -> None:
    if config.layer > layers:
        raise UserError(f"units.layer={config.layer}: {config.name} has {layers} layers")


def _waveform(samples: np.ndarray, normalize: bool) -> Tensor:
    waveform = torch.as_tensor(samples, dtype=torch.float32)
    return F.layer_norm(waveform, waveform.shape) if normalize else waveform


def _with_children(module: Module, **children: nn.Module) -> Module:
    """A shallow copy with other children; the weights are shared, the original is untouched."""
    other = copy.copy(module)
    other._modules = {**module._modules, **children}  # pyright: ignore[reportPrivateUsage]
    return other
