"""A light vocoder: convolutions at 50, 200 and 1000 Hz, a harmonic source, an inverse STFT.

After HiFTNet (Li et al. 2023) and iSTFTNet (Kaneko et al. 2022), but as source and filter, with
F0 and durations predicted from the units. 2.8 M parameters, and a finite receptive field.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.audio import SAMPLES_PER_FRAME
from omni.vocoder.base import Rendering, SourceState, Vocoder
from omni.vocoder.durations import DurationPredictor
from omni.vocoder.nsf_config import NsfConfig, contexts
from omni.vocoder.nsf_layers import SLOPE, SameConv, Upsample, look_ahead, residual_blocks
from omni.vocoder.source import (
    MAX_F0,
    MIN_F0,
    frame_phases,
    hashed_noise,
    pulses,
    to_samples,
)

LOG_F0_CENTRE, LOG_F0_SCALE = 5.0, 0.4  # of human voices, in log Hz: 148 Hz, a fifth up or down
LOG_GAIN_START, MAX_LOG_GAIN = -3.0, 4.0  # the excitations have unit power, speech about e^-3


@dataclass(frozen=True)
class Prosody:
    """log_f0: [B, F] log Hz at the frames' starts, also where unvoiced; voiced: [B, F] logits."""

    log_f0: Tensor
    voiced: Tensor


class ProsodyPredictor(nn.Module):
    """Units -> pitch and voicing, apart from the trunk so that it can be run in float64."""

    def __init__(self, config: NsfConfig) -> None:
        super().__init__()
        width = config.prosody_width
        self.ahead = config.ahead[1]
        self.embedding = nn.Embedding(config.num_units, width)
        self.blocks = residual_blocks(config, width, config.prosody_dilations, normalise=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2)

    def forward(self, units: Tensor) -> Prosody:
        """[B, F] int64, one unit per frame."""
        # bfloat16 would round pitch by half a percent.
        with torch.autocast(units.device.type, enabled=False):
            x = look_ahead(self.blocks, self.embedding(units), self.ahead)
            log_f0, voiced = self.head(self.norm(x)).unbind(-1)
        return Prosody(log_f0 * LOG_F0_SCALE + LOG_F0_CENTRE, voiced)

    @torch.no_grad()
    def exact(self, units: Tensor) -> Prosody:
        """The same in float64: the phase adds F0 up over the whole reply, and a difference in the
        seventh place between a window and the whole would be heard by its 40th harmonic."""
        return copy.deepcopy(self).double()(units)


class NsfVocoder(Vocoder):
    """Units -> pitch -> source; units -> trunk (50 Hz); trunk and source -> STFT -> waveform."""

    kind = NsfConfig.kind
    stft_basis: Tensor
    istft_basis: Tensor

    def __init__(self, config: NsfConfig) -> None:
        super().__init__()
        self.config = config
        self.num_units = config.num_units
        width, kernel, causal = config.width, config.kernel, config.causal
        self.embedding = nn.Embedding(config.num_units, width)
        self.trunk = residual_blocks(config, width, config.trunk_dilations, normalise=True)
        self.trunk_norm = nn.LayerNorm(width)
        self.prosody = ProsodyPredictor(config)
        mid, fine, bins = config.mid_width, config.fine_width, config.n_fft // 2 + 1
        self.to_mid = Upsample(width, mid, config.upsample_rates[0], kernel, causal=causal)
        self.mid = residual_blocks(config, mid, config.mid_dilations, normalise=False)
        self.to_fine = Upsample(mid, fine, config.upsample_rates[1], kernel, causal=causal)
        self.from_source = SameConv(4 * bins, fine, kernel, causal=causal)
        self.fine = residual_blocks(config, fine, config.fine_dilations, normalise=False)
        self.head = SameConv(fine, 4 * bins, config.head_kernel, causal=causal)
        self.dur_predictor = DurationPredictor(
            width, config.duration_width, config.duration_kernel, config.duration_dropout
        )
        basis = _fourier_basis(config.n_fft)  # [2 * bins, n_fft]
        window = torch.hann_window(config.n_fft)
        scale = torch.full((bins,), 2.0)
        scale[0] = scale[-1] = 1.0  # the ends of a real spectrum have no mirror image
        # Squared Hann windows at this hop add up to 3/8 of n_fft / hop.
        overlap = 0.375 * config.n_fft / config.hop
        inverse = basis * torch.cat([scale, scale])[:, None] * window / (config.n_fft * overlap)
        forward = (basis * window / config.hop).T.contiguous()
        self.register_buffer("stft_basis", forward, persistent=False)  # [n_fft, 2 * bins]
        self.register_buffer("istft_basis", inverse, persistent=False)  # [2 * bins, n_fft]
        self._edge = (config.n_fft - config.hop) // 2  # columns are centred in their hop
        self._source, self._samples = contexts(config)
        self.source_context_frames, self.context_frames = -self._source.first, -self._samples.first
        # All of it: of the 17 frames of the symmetric form 8 leave the borders of chunks of 10
        # units 12 % off in the trained nano, and the others are there a few milliseconds later.
        self.recommended_right_context_frames = self.right_context_frames

    @property
    def right_context_frames(self) -> int:
        """`config.right_context_frames`, or as many as before."""
        return self._samples.last

    @property
    def source_right_context_frames(self) -> int:
        """Following frames that can change a frame's phase advance."""
        return self._source.last

    @property
    def duration_embedding(self) -> nn.Embedding:
        """The features' own embedding, which the duration predictor shares."""
        return self.embedding

    def features(self, units: Tensor) -> Tensor:
        """[B, F] int64, one unit per frame -> [B, width, F], at 50 Hz."""
        x = look_ahead(self.trunk, self.embedding(units), self.config.ahead[0])
        return self.trunk_norm(x).transpose(1, 2)

    def decode(self, features: Tensor, harmonic: Tensor, noise: Tensor) -> Tensor:
        """[B, width, F] and the two excitations [B, F * 320] -> waveform [B, F * 320].

        Source and filter: each bin of the pulses is turned and scaled, each of the noise scaled.
        A head that draws the spectrum freely takes long to follow the pitch.
        """
        x = self.to_fine(self.mid(self.to_mid(features)))  # [B, fine, F * 20]
        pulse, hiss = self._stft(harmonic), self._stft(noise)
        x = self.fine(x + self.from_source(torch.cat([pulse, hiss], dim=1)))
        out = self.head(F.leaky_relu(x, SLOPE))
        with torch.autocast(out.device.type, enabled=False):
            # float32: eight bits of phase are audible.
            log_gain, log_hiss, real, imaginary = out.float().chunk(4, dim=1)
            real = real + 1.0  # starts as a filter without delay
            unit = torch.rsqrt(real**2 + imaginary**2 + 1e-4)
            gain = (log_gain + LOG_GAIN_START).clamp(max=MAX_LOG_GAIN).exp() * unit
            hiss = hiss * (log_hiss + LOG_GAIN_START).clamp(max=MAX_LOG_GAIN).exp().repeat(1, 2, 1)
            real, imaginary = gain * real, gain * imaginary
            re, im = pulse.chunk(2, dim=1)
            voice = torch.cat([re * real - im * imaginary, re * imaginary + im * real], dim=1)
            return self._istft(voice + hiss)

    def excite(
        self, f0: Tensor, voiced: Tensor, phases: Tensor, first_frame: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The source in float32.

        f0: [B, F] float64 Hz; voiced: [B, F] 0..1; phases: [B, F + 1]; first_frame: [B] int64.
        Returns the pulses, gated by voicing, and the noise: [B, F * 320] each.
        """
        harmonic = pulses(f0, phases) * to_samples(voiced.float())
        noise = hashed_noise(first_frame * SAMPLES_PER_FRAME, harmonic.shape[-1])
        return harmonic, noise

    def render(
        self, units: Tensor, source: SourceState | None = None, *, first_frame: int = 0
    ) -> Rendering:
        """As `Vocoder.render`; the pitch is read off the units, its phase goes on from `source`."""
        state = source or SourceState()
        prosody = self.prosody.exact(units[None])
        f0 = prosody.log_f0.exp().clamp(MIN_F0, MAX_F0)
        phases = frame_phases(f0, phase=state.phase, frame=state.frame - first_frame)
        start = torch.tensor([first_frame], device=units.device)
        harmonic, noise = self.excite(f0, prosody.voiced.sigmoid(), phases, start)
        waveform = self.decode(self.features(units[None]), harmonic, noise)[0].clamp(-1.0, 1.0)
        return Rendering(waveform, phases[0] % 1.0)

    def _stft(self, signal: Tensor) -> Tensor:
        """[B, W] -> [B, 2 * bins, W / hop] real and imaginary parts, columns centred in hops."""
        with torch.autocast(signal.device.type, enabled=False):
            padded = F.pad(signal.float(), (self._edge, self._edge))
            windows = padded.unfold(1, self.config.n_fft, self.config.hop)  # [B, T, n_fft]
            return (windows @ self.stft_basis).transpose(1, 2)

    def _istft(self, spectrum: Tensor) -> Tensor:
        """[B, 2 * bins, T] -> [B, T * hop]: the windows, added where they overlap."""
        hop, columns = self.config.hop, spectrum.shape[2]
        windows = spectrum.transpose(1, 2) @ self.istft_basis  # [B, T, n_fft]
        parts = windows.split(hop, dim=2)  # n_fft / hop times [B, T, hop]
        last = len(parts) - 1
        shifted = [F.pad(part, (0, 0, i, last - i)) for i, part in enumerate(parts)]
        added = torch.stack(shifted).sum(0).flatten(1)  # [B, (T + last) * hop]
        return added[:, self._edge : self._edge + columns * hop]


def _fourier_basis(size: int) -> Tensor:
    """[2 * bins, size]: cosines, then negated sines, of the bins 0 ... size / 2."""
    angle = (
        torch.arange(size // 2 + 1)[:, None] * torch.arange(size)[None, :] * (2 * torch.pi / size)
    )
    return torch.cat([angle.cos(), -angle.sin()])
