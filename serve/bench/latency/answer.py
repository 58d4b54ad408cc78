"""What every way of asking gives back, and the clock that it is timed by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from omni.vocoder import ChunkSchedule

Clock = Callable[[], float]  # ms


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question and how far its answer is wanted.

    waveform: [samples] 16 kHz. schedule: None makes units and no sound. tokens: the reply has so
    many, for it does not end by itself. until_sound: stop at the first chunk.
    """

    waveform: np.ndarray
    schedule: ChunkSchedule | None
    tokens: int
    until_sound: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, in ms after the question's last sample.

    token_at_ms: of each token, when it was chosen; first_audio_ms: None without sound;
    started_ms: when this answer's clock began, on the one that all share; ahead_ms: what the work
    took that was done before that, in the pause after the question.
    """

    token_ids: tuple[int, ...]
    units: tuple[int, ...]
    token_at_ms: tuple[float, ...]
    first_audio_ms: float | None
    total_ms: float
    started_ms: float
    ahead_ms: float = 0.0


def clock_of(device: torch.device) -> Clock:
    """A clock that waits for what the device has been told to do."""
    if device.type != "cuda":
        return lambda: 1e3 * time.perf_counter()

    def now() -> float:
        torch.cuda.synchronize(device)
        return 1e3 * time.perf_counter()

    return now
