"""A question of any length, made up: tones that change like syllables, so that no two places of it
sound alike, and an answer depends on all of it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from omni.audio import SAMPLE_RATE

SYLLABLE_S = 0.2
TONES = 3
LOWEST_HZ, HIGHEST_HZ = 150.0, 3000.0


@lru_cache(maxsize=16)
def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """[samples] float32 at 16 kHz."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    syllable = (time_s / SYLLABLE_S).astype(int)
    count = syllable[-1] + 1
    wave = np.zeros(len(time_s))
    for _ in range(TONES):
        pitch_hz = rng.uniform(LOWEST_HZ, HIGHEST_HZ, count)[syllable]
        loudness = rng.uniform(0, 1, count)[syllable]
        wave += loudness * np.sin(2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE)
    return (0.1 * wave).astype(np.float32)
