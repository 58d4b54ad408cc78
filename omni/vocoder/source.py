"""The excitation of the light vocoder: a band-limited pulse train at F0, and noise.

Both are functions of absolute place (phase at a frame, number of a sample), never of where a
window starts, so that a reply made in chunks has the excitation of the whole.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from omni.audio import FRAME_RATE, SAMPLES_PER_FRAME

TOP_FREQUENCY = 7800.0  # Hz; harmonics above it would alias
MIN_F0, MAX_F0 = 50.0, 600.0  # Hz


def frame_phases(f0: Tensor, *, phase: float = 0.0, frame: int = 0) -> Tensor:
    """The phase at the start of each frame and at the end.

    f0: [..., F] float64 Hz at the starts of the frames, linear in between; the last one holds.
    phase: cycles at the start of frame number `frame`.
    Returns [..., F + 1] float64 in cycles, not yet modulo 1.
    """
    advance = 0.5 * (f0 + following(f0)) / FRAME_RATE  # [..., F] cycles
    total = torch.cat([torch.zeros_like(f0[..., :1]), advance.cumsum(-1)], dim=-1)
    return total - total[..., frame : frame + 1] + phase


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
