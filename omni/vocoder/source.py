"""The excitation of the light vocoder: a band-limited pulse train at F0, and noise.

Both are functions of absolute place (phase at a frame, number of a sample), never of where a
window starts, so that a reply made in chunks has the excitation of the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from omni.audio import FRAME_RATE, SAMPLES_PER_FRAME
from omni.vocoder.stream_layers import Signal

TOP_FREQUENCY = 7800.0  # Hz; harmonics above it would alias
MIN_F0, MAX_F0 = 50.0, 600.0  # Hz


@dataclass(frozen=True)
class SourceState:
    """Where the excitation of a stream stands.

    pitch: [B, 2, 0 or 1] float64, the F0 and voicing of a frame whose successor is not known yet;
    phase: [B] float64, cycles modulo 1 at its start; sample: [B] int64, the number of its first.
    """

    pitch: Tensor
    phase: Tensor
    sample: Tensor

    @classmethod
    def initial(cls, batch: int, device: torch.device) -> SourceState:
        """Before the first frame of a reply: phase 0 at sample 0."""
        pitch = torch.zeros(batch, 2, 0, dtype=torch.float64, device=device)
        phase = torch.zeros(batch, dtype=torch.float64, device=device)
        return cls(pitch, phase, torch.zeros(batch, dtype=torch.int64, device=device))


def excitation(
    f0: Tensor, voiced: Tensor, phases: Tensor, first_sample: Tensor
) -> tuple[Tensor, Tensor]:
    """The pulses, gated by voicing, and the noise: [B, F * 320] float32 each.

    f0: [B, F] float64 Hz; voiced: [B, F] 0..1; phases: [B, F + 1]; first_sample: [B] int64.
    """
    harmonic = pulses(f0, phases) * to_samples(voiced.float())
    return harmonic, hashed_noise(first_sample, harmonic.shape[-1])


def source_spare_before(spare_frames: int | None) -> int | None:
    """Frames of pitch at the end that only the last `spare_frames` of the excitation need."""
    return None if spare_frames is None else max(0, spare_frames - 1)


def source_step(x: Signal, state: SourceState) -> tuple[Signal, SourceState]:
    """The next frames of pitch -> the excitation, a frame behind.

    x: [B, 2, F] float64, F0 in Hz and voicing 0..1 at the frames' starts.
    Returns pulses and noise [B, 2, W] float32, and the state. At the end the last pitch holds.
    """
    joined = torch.cat([state.pitch, x.values], dim=-1)
    known, frames = state.pitch.shape[-1] + x.final, joined.shape[-1]
    final = max(0, known - 1)
    made = frames if x.missing == 0 else max(0, frames - 1)
    missing = None if x.missing is None else (x.missing + frames - made) * SAMPLES_PER_FRAME
    f0, voiced = joined.unbind(1)
    phases = frame_phases(f0, phase=state.phase[:, None])
    waves = torch.stack(excitation(f0, voiced, phases, state.sample), dim=1)
    after = SourceState(
        joined[..., final:known].clone(),
        phases[:, final] % 1.0,
        state.sample + final * SAMPLES_PER_FRAME,
    )
    samples = waves[..., : made * SAMPLES_PER_FRAME]
    return Signal(samples, final * SAMPLES_PER_FRAME, missing), after


def frame_phases(f0: Tensor, *, phase: Tensor | float = 0.0) -> Tensor:
    """The phase at the start of each frame and at the end.

    f0: [..., F] float64 Hz at the starts of the frames, linear in between; the last one holds.
    phase: cycles at the start of the first frame, [..., 1] or one for all.
    Returns [..., F + 1] float64 in cycles, not yet modulo 1.
    """
    advance = 0.5 * (f0 + following(f0)) / FRAME_RATE  # [..., F] cycles
    return phase + F.pad(advance.cumsum(-1), (1, 0))


def pulses(f0: Tensor, phases: Tensor) -> Tensor:
    """All harmonics up to TOP_FREQUENCY as equal cosines, of unit power together.

    f0: [..., F] float64 Hz; phases: [..., F + 1] cycles. Returns [..., F * 320] float32.
    """
    t = torch.arange(SAMPLES_PER_FRAME, dtype=torch.float64, device=f0.device) / SAMPLES_PER_FRAME
    slope = following(f0) - f0
    cycles = (f0[..., None] * t + 0.5 * slope[..., None] * t**2) / FRAME_RATE
    cycles = (cycles + phases[..., :-1, None]).flatten(-2)  # [..., W]
    frequency = (f0[..., None] + slope[..., None] * t).flatten(-2).float()
    # Around 0, where the quotient below needs its precision, floats are densest.
    theta = 2 * math.pi * (cycles - cycles.round()).float()
    harmonics = TOP_FREQUENCY / frequency
    count = harmonics.floor()
    half = theta / 2
    # The sum of cos(h theta), h = 1..count, in closed form (Dirichlet's kernel).
    small = half.abs() < 1e-4
    quotient = torch.sin(count * half) / torch.sin(torch.where(small, torch.ones_like(half), half))
    total = torch.where(small, count, quotient * torch.cos((count + 1) * half))
    # The next harmonic fades in with its distance, so that a moving F0 makes no steps.
    total = total + (harmonics - count) * torch.cos((count + 1) * theta)
    return total * torch.sqrt(2.0 / harmonics)


def hashed_noise(first_sample: Tensor, samples: int) -> Tensor:
    """White noise of unit power that depends on the sample's number alone.

    first_sample: [...] int64. Returns [..., samples] float32, uniform in -sqrt(3)..sqrt(3).
    """
    index = first_sample[..., None] + torch.arange(samples, device=first_sample.device)
    # A multiply-xorshift hash of 32 bits; the constants are those of MurmurHash3's finaliser.
    bits = (index * 0x9E3779B1) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    bits = bits ^ (bits >> 16)
    return ((bits.double() / 2**31 - 1.0) * math.sqrt(3.0)).float()


def following(values: Tensor) -> Tensor:
    """[..., F]: each place holds its right neighbour; the last one keeps its own value."""
    return torch.cat([values[..., 1:], values[..., -1:]], dim=-1)


def to_samples(values: Tensor) -> Tensor:
    """[..., F] at the frames' starts -> [..., F * 320], linear in between."""
    t = torch.arange(SAMPLES_PER_FRAME, device=values.device) / SAMPLES_PER_FRAME
    slope = following(values) - values
    return (values[..., None] + slope[..., None] * t).flatten(-2)
