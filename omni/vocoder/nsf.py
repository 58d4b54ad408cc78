"""A light vocoder: convolutions at 50, 200 and 1000 Hz, a harmonic source, an inverse STFT.

After HiFTNet (Li et al. 2023) and iSTFTNet (Kaneko et al. 2022), but as source and filter, with
F0 and durations predicted from the units. 2.8 M parameters, and a finite receptive field.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from omni.audio import SAMPLES_PER_FRAME
from omni.vocoder.base import Vocoder
from omni.vocoder.durations import DurationPredictor
from omni.vocoder.nsf_config import NsfConfig, context
from omni.vocoder.nsf_layers import (
    AheadState,
    Upsample,
    look_ahead,
    look_ahead_step,
    residual_blocks,
)
from omni.vocoder.prosody import ProsodyPredictor
from omni.vocoder.source import (
    SourceState,
    excitation,
    frame_phases,
    source_spare_before,
    source_step,
)
from omni.vocoder.spectrum import Spectrum
from omni.vocoder.stream_layers import PairState, SameConv, Signal, align, leaky, least

# Frames, of the 17 of the symmetric form: a first chunk that sees 12 differs from the whole by
# 0.1 % at its border (0.2 at worst), one that sees 8 by 8 % (a nano of that form, its questions).
HEARD_AHEAD = 12
LOG_GAIN_START, MAX_LOG_GAIN = -3.0, 4.0  # the excitations have unit power, speech about e^-3


@dataclass(frozen=True)
class ExcitationState:
    """Of what drives the filter: the pitch, the source, and the samples that its STFT needs."""

    prosody: AheadState
    source: SourceState
    stft: Tensor


@dataclass(frozen=True)
class FeatureState:
    """Of the units' way to 1000 Hz."""

    trunk: AheadState
    to_mid: Tensor
    mid: tuple[PairState, ...]
    to_fine: Tensor


@dataclass(frozen=True)
class NsfState:
    """What a stream keeps of the signals inside the vocoder, layer by layer.

    joint: features or source, whichever is ahead; columns: the source's, until the filter comes.
    """

    excitation: ExcitationState
    from_source: Tensor
    features: FeatureState
    joint: tuple[Tensor, ...]
    fine: tuple[PairState, ...]
    head: Tensor
    columns: tuple[Tensor, ...]
    istft: Tensor


class NsfVocoder(Vocoder):
    """Units -> pitch -> source; units -> trunk (50 Hz); trunk and source -> STFT -> waveform."""

    kind = NsfConfig.kind

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
        self.spectrum = Spectrum(config.n_fft, config.hop)
        self._context = context(config)
        self.context_frames = -self._context.first
        right = self.right_context_frames
        self.recommended_right_context_frames = right if causal else min(right, HEARD_AHEAD)

    @property
    def right_context_frames(self) -> int:
        """`config.right_context_frames`, or as many as before."""
        return self._context.last

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
        columns = self.spectrum.stft(torch.stack([harmonic, noise], dim=1))
        x = self.fine(x + self.from_source(self._as_weights(columns)))
        return self.spectrum.istft(_filtered(self.head(leaky(x)), columns))

    def excite(
        self, f0: Tensor, voiced: Tensor, phases: Tensor, first_frame: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The source in float32.

        f0: [B, F] float64 Hz; voiced: [B, F] 0..1; phases: [B, F + 1]; first_frame: [B] int64.
        Returns the pulses, gated by voicing, and the noise: [B, F * 320] each.
        """
        return excitation(f0, voiced, phases, first_frame * SAMPLES_PER_FRAME)

    @torch.no_grad()
    def synthesize(self, units: Tensor) -> Tensor:
        """As `Vocoder.synthesize`; the pitch is read off the units."""
        f0, voiced = self.prosody.exact(units[None]).pitch().unbind(1)
        start = torch.zeros(1, dtype=torch.int64, device=units.device)
        harmonic, noise = self.excite(f0, voiced, frame_phases(f0), start)
        return self.decode(self.features(units[None]), harmonic, noise)[0].clamp(-1.0, 1.0)

    def initial_state(self, batch: int = 1) -> NsfState:
        """As `Vocoder.initial_state`."""
        nothing = self.head.weight.new_zeros(batch, self.head.in_channels, 0)
        no_columns = nothing.new_zeros(batch, self.head.out_channels, 0, dtype=torch.float32)
        return NsfState(
            excitation=ExcitationState(
                prosody=self.prosody.exact.initial_state(batch),
                source=SourceState.initial(batch, self.device),
                stft=self.spectrum.stft_initial_state(batch, signals=2),
            ),
            from_source=self.from_source.initial_state(batch),
            features=FeatureState(
                trunk=AheadState(self.trunk.initial_state(batch), self.config.ahead[0]),
                to_mid=self.to_mid.conv.initial_state(batch),
                mid=self.mid.initial_state(batch),
                to_fine=self.to_fine.conv.initial_state(batch),
            ),
            joint=(nothing, nothing),
            fine=self.fine.initial_state(batch),
            head=self.head.initial_state(batch),
            columns=(no_columns, no_columns),
            istft=self.spectrum.istft_initial_state(batch),
        )

    @torch.no_grad()
    def step(
        self, units: Tensor, state: NsfState, *, spare_frames: int | None = None
    ) -> tuple[Signal, NsfState]:
        """As `Vocoder.step`."""
        frames = Signal(units, units.shape[1], None if spare_frames is None else 0)
        # What is needed of each layer's outputs, from the last layer to the first.
        spare = None if spare_frames is None else spare_frames * SAMPLES_PER_FRAME
        of_head = self.spectrum.istft_spare_before(spare)
        of_fine = self.head.spare_before(of_head)
        joint = self.fine.spare_before(of_fine)
        of_stft = least([of_head, self.from_source.spare_before(joint)])

        columns, exciting = self._excitation_step(frames, state.excitation, of_stft)
        source, from_source = self.from_source.step(
            columns.map(self._as_weights), state.from_source, joint
        )
        x, features = self._features_step(frames, state.features, joint)
        (x, source), waiting = align((x, source), state.joint)
        x, fine = self.fine.step(replace(x, values=x.values + source.values), state.fine, of_fine)
        x, head = self.head.step(x.map(leaky), state.head, of_head)
        (x, columns), late = align((x.map(Tensor.float), columns), state.columns)
        x = replace(x, values=_filtered(x.values, columns.values))
        x, istft = self.spectrum.istft_step(x, state.istft, spare)
        waveform = x.map(lambda values: values[:, 0].clamp(-1.0, 1.0))
        return waveform, NsfState(exciting, from_source, features, waiting, fine, head, late, istft)

    def _excitation_step(
        self, frames: Signal, state: ExcitationState, spare: int | None
    ) -> tuple[Signal, ExcitationState]:
        """Units [B, F] -> columns of the pulses and of the noise, [B, 4 * bins, T]."""
        samples = self.spectrum.stft_spare_before(spare)
        of_source = None if samples is None else samples // SAMPLES_PER_FRAME
        pitch, prosody = self.prosody.exact.step(
            frames, state.prosody, source_spare_before(of_source)
        )
        waves, source = source_step(pitch, state.source)
        columns, stft = self.spectrum.stft_step(waves, state.stft, spare)
        return columns, ExcitationState(prosody, source, stft)

    def _features_step(
        self, frames: Signal, state: FeatureState, spare: int | None
    ) -> tuple[Signal, FeatureState]:
        """Units [B, F] -> [B, fine, T], at 1000 Hz."""
        of_mid = self.to_fine.spare_before(spare)
        of_to_mid = self.mid.spare_before(of_mid)
        of_trunk = self.to_mid.spare_before(of_to_mid)
        x = frames.map(lambda values: self.embedding(values).transpose(1, 2))
        x, trunk = look_ahead_step(self.trunk, x, state.trunk, self.config.ahead[0], of_trunk)
        x = x.map(lambda values: self.trunk_norm(values.transpose(1, 2)).transpose(1, 2))
        x, to_mid = self.to_mid.step(x, state.to_mid, of_to_mid)
        x, mid = self.mid.step(x, state.mid, of_mid)
        x, to_fine = self.to_fine.step(x, state.to_fine, spare)
        return x, FeatureState(trunk, to_mid, mid, to_fine)

    def _as_weights(self, values: Tensor) -> Tensor:
        """In the type of the weights, which may be half as wide as the spectra."""
        return values.to(self.from_source.weight.dtype)


def _filtered(filters: Tensor, columns: Tensor) -> Tensor:
    """[B, 4 * bins, T] each: what the head says, and pulses and noise -> [B, 2 * bins, T]."""
    with torch.autocast(filters.device.type, enabled=False):
        # float32: eight bits of phase are audible.
        log_gain, log_hiss, real, imaginary = filters.float().chunk(4, dim=1)
        pulse, hiss = columns.chunk(2, dim=1)
        real = real + 1.0  # starts as a filter without delay
        unit = torch.rsqrt(real**2 + imaginary**2 + 1e-4)
        gain = (log_gain + LOG_GAIN_START).clamp(max=MAX_LOG_GAIN).exp() * unit
        hiss = hiss * (log_hiss + LOG_GAIN_START).clamp(max=MAX_LOG_GAIN).exp().repeat(1, 2, 1)
        real, imaginary = gain * real, gain * imaginary
        re, im = pulse.chunk(2, dim=1)
        voice = torch.cat([re * real - im * imaginary, re * imaginary + im * real], dim=1)
        return voice + hiss
