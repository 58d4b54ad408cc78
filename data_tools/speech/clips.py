"""What one recording is like, and whether it can be the speech of its text.

`speak` asks before it keeps a clip, `check` asks about a whole data set: the same rules.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omni.audio import SAMPLE_RATE, save_wav
from omni.files import write_once

FRAME = SAMPLE_RATE // 100  # 10 ms
FULL_SCALE = 0.999  # a sample at or above it was, most likely, cut there
DIGIT_LETTERS = 5  # "7" is said "seven"
SYLLABLE_LETTERS = 3  # one character of a syllabic or logographic script


@dataclass(frozen=True, kw_only=True)
class ClipStats:
    """seconds: whole length. peak, rms: dB below full scale. clipped: share of samples at full
    scale. silence: share of 10 ms frames 40 dB below the loudest one."""

    seconds: float
    peak_db: float
    clipped: float
    silence: float


@dataclass(frozen=True, kw_only=True)
class ClipRules:
    """letters_per_s: slowest and fastest speech, in letters as they are said; 1424 clips of the
    nano's voices lie between 5.6 and 24.7. slack_s: what a text may last beyond the slowest.
    """

    min_s: float = 0.15
    min_peak_db: float = -40.0
    max_clipped: float = 0.002
    max_silence: float = 0.7
    letters_per_s: tuple[float, float] = (5.0, 32.0)
    slack_s: float = 1.0

    def __post_init__(self) -> None:
        low, high = self.letters_per_s
        if not 0 < low < high:
            raise ValueError(f"letters_per_s={self.letters_per_s}: must be (low, high), above 0")


def make_once(path: Path, make: Callable[[], np.ndarray]) -> None:
    """Writes the [samples] at 16 kHz that `make` gives, unless the file is there.

    Any number of workers may want it at once, also on other machines that share the folder.
    """
    write_once(path, lambda: save_wav(path, make()))


def measure(waveform: np.ndarray) -> ClipStats:
    """[samples] float at 16 kHz."""
    level = np.abs(waveform)
    frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.square(frames).mean(axis=1) if len(frames) else np.zeros(1)
    return ClipStats(
        seconds=len(waveform) / SAMPLE_RATE,
        peak_db=decibels(float(level.max(initial=0.0))),
        clipped=float((level >= FULL_SCALE).mean()) if waveform.size else 0.0,
        silence=float((power <= power.max() * 1e-4).mean()),
    )


def decibels(amplitude: float) -> float:
    """Of an amplitude, full scale being 0 dB; -120 dB for silence."""
    return float(20 * np.log10(max(amplitude, 1e-6)))


def spoken_letters(text: str) -> int:
    """About how many letters are said: digits are said as words, a Chinese character as three."""
    letters = 0
    for character in text:
        category = unicodedata.category(character)
        if category[0] == "N":
            letters += DIGIT_LETTERS
        elif category == "Lo":
            letters += SYLLABLE_LETTERS
        elif category[0] == "L":
            letters += 1
    return letters


def can_be_said(text: str) -> bool:
    """Whether a text has a letter or digit."""
    return spoken_letters(text) > 0


def faults(stats: ClipStats, text: str, rules: ClipRules) -> dict[str, str]:
    """Rule -> what is wrong, for every rule that the clip breaks; empty if it can be kept."""
    found = {}
    if stats.seconds < rules.min_s:
        found["empty"] = f"lasts {stats.seconds:.2f} s, at least {rules.min_s} s is needed"
    if stats.peak_db < rules.min_peak_db:
        found["silent"] = f"peaks at {stats.peak_db:.0f} dB, silence below {rules.min_peak_db:.0f}"
    elif stats.silence > rules.max_silence:
        found["silent"] = f"{stats.silence:.0%} is silence, at most {rules.max_silence:.0%}"
    if stats.clipped > rules.max_clipped:
        found["clipped"] = f"{stats.clipped:.2%} is at full scale, at most {rules.max_clipped:.2%}"
    slowest, fastest = rules.letters_per_s
    letters = spoken_letters(text)
    if stats.seconds < letters / fastest:
        found["too fast"] = (
            f"says {letters} letters in {stats.seconds:.2f} s, at most {fastest:.0f} a second"
        )
    elif stats.seconds > letters / slowest + rules.slack_s:
        found["too slow"] = (
            f"says {letters} letters in {stats.seconds:.2f} s, at least {slowest:.0f} a second"
        )
    return found
