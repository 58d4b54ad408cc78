"""Sounds that are no speech, as one more engine: a voice assistant has to know them as such.

A voice is `sound-noise:seed=17`; the seed draws length, level, pitch and colour. The text that such
a voice speaks is empty.
"""

from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from data_tools.speech.voices import Voice
from omni.audio import SAMPLE_RATE

SECONDS = (0.5, 3.0)
LEVEL_DB = (-36.0, -6.0)  # peak; silence is far below
SILENCE_DB = (-75.0, -50.0)
SEMITONE = 2 ** (1 / 12)
SCALE = (0, 2, 4, 5, 7, 9, 11, 12)  # semitones of a major scale
LOWEST_HZ, HIGHEST_HZ = 90.0, 2000.0


class SoundEngine:
    """Draws each sound from its seed; there is nothing to start and nothing to end."""

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """The sound that the seed draws. Raises ValueError for another name, or for a text."""
        if voice.name not in SOUNDS:
            raise ValueError(f"voice {voice}: sounds are {', '.join(SOUNDS)}")
        if text:
            raise ValueError(f"voice {voice}: a sound says nothing, so its text must be empty")
        seed = int(voice.number("seed")) if voice.parameters else 0
        rng = np.random.default_rng([seed, list(SOUNDS).index(voice.name)])
        samples = round(rng.uniform(*SECONDS) * SAMPLE_RATE)
        sound = SOUNDS[voice.name](rng, samples)
        level = rng.uniform(*(SILENCE_DB if voice.name == "silence" else LEVEL_DB))
        peak = max(float(np.abs(sound).max()), 1e-9)
        return (sound * (10 ** (level / 20) / peak)).astype(np.float32)

    def versions(self) -> dict[str, str]:
        """{"sound": ...}; another numpy may draw other sounds."""
        return {"sound": f"1, numpy {version('numpy').split('.')[0]}"}

    def close(self) -> None:
        """Holds nothing."""


def noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Of any colour from white to brown, swelling and falling slowly."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 50.0)
    sound = np.fft.irfft(spectrum * frequency ** -rng.uniform(0.0, 1.0), samples)
    points = rng.uniform(0.3, 1.0, 6)
    return sound * np.interp(np.linspace(0, 5, samples), np.arange(6), points)


def silence(rng: np.random.Generator, samples: int) -> np.ndarray:
    """What a microphone gives in a still room."""
    return rng.standard_normal(samples)


def tone(rng: np.random.Generator, samples: int) -> np.ndarray:
    """One steady beep, or a row of equal ones."""
    sound = np.sin(2 * np.pi * pitch(rng) * seconds(samples))
    beeps = rng.integers(1, 5)
    return sound if beeps == 1 else sound * (np.sin(np.pi * beeps * 2 * unit(samples)) > 0)


def hum(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A machine: a low tone, its harmonics, and some noise."""
    base = rng.choice([50.0, 60.0, rng.uniform(70, 140)])
    parts = [
        np.sin(2 * np.pi * base * n * seconds(samples)) / n ** rng.uniform(0.5, 1.5)
        for n in range(1, 9)
    ]
    return np.sum(parts, axis=0) + 0.1 * rng.standard_normal(samples)


def siren(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A tone that glides up and down."""
    low, high = sorted((pitch(rng), pitch(rng)))
    sweep = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(0.3, 3.0) * seconds(samples))
    return np.sin(2 * np.pi * np.cumsum(low + (high - low) * sweep) / SAMPLE_RATE)


def melody(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Notes of a scale, plucked one after the other."""
    base, sound = rng.uniform(130.0, 400.0), np.zeros(samples)
    length = round(rng.uniform(0.12, 0.4) * SAMPLE_RATE)
    for start in range(0, samples, length):
        hertz = base * SEMITONE ** rng.choice(SCALE)
        sound[start:] += note(rng, hertz, samples - start)
    return sound


def chords(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Triads with a beat under them."""
    base, sound = rng.uniform(110.0, 260.0), np.zeros(samples)
    length = round(rng.uniform(0.4, 0.8) * SAMPLE_RATE)
    for start in range(0, samples, length):
        root = rng.choice(SCALE)
        for step in (0, rng.choice([3, 4]), 7):
            sound[start:] += note(rng, base * SEMITONE ** (root + step), samples - start, slow=True)
        sound[start:] += 2.0 * click(rng, samples - start, decay_s=0.03)
    return sound


def clicks(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Keys, a clock, things put down."""
    sound = np.zeros(samples)
    for start in rng.integers(0, samples - 800, rng.integers(1, 12)):
        sound[start:] += rng.uniform(0.3, 1.0) * click(rng, samples - start, decay_s=0.004)
    return sound


def knocks(rng: np.random.Generator, samples: int) -> np.ndarray:
    """On wood: dull, and evenly spaced."""
    sound, gap = np.zeros(samples), round(rng.uniform(0.15, 0.5) * SAMPLE_RATE)
    hertz = rng.uniform(120.0, 400.0)
    for start in range(0, samples - 800, gap):
        rest = seconds(samples - start)
        sound[start:] += np.sin(2 * np.pi * hertz * rest) * np.exp(-rest / 0.025)
    return sound


def wind(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Noise through a band that wanders: wind, water, breath."""
    white, sound = rng.standard_normal(samples), np.zeros(samples)
    for _ in range(3):
        centre = rng.uniform(200, 1500)
        band = np.exp(
            -np.square((np.fft.rfftfreq(samples, 1 / SAMPLE_RATE) - centre) / (0.4 * centre))
        )
        part = np.fft.irfft(np.fft.rfft(white) * band, samples)
        swell = 1 + np.sin(2 * np.pi * (rng.uniform(0.2, 1.5) * seconds(samples) + rng.random()))
        sound += part * swell
    return sound


def note(rng: np.random.Generator, hertz: float, samples: int, *, slow: bool = False) -> np.ndarray:
    """A string that is plucked, or one that is held."""
    time = seconds(samples)
    decay = np.exp(-time / (0.5 if slow else rng.uniform(0.08, 0.3)))
    parts = [np.sin(2 * np.pi * hertz * n * time) / n**1.5 for n in range(1, 6)]
    return np.sum(parts, axis=0) * decay


def click(rng: np.random.Generator, samples: int, *, decay_s: float) -> np.ndarray:
    """Noise that dies away: a key, a drum, a thing put down."""
    return rng.standard_normal(samples) * np.exp(-seconds(samples) / decay_s)


def pitch(rng: np.random.Generator) -> float:
    """Hz, evenly over the octaves."""
    return float(np.exp(rng.uniform(np.log(LOWEST_HZ), np.log(HIGHEST_HZ))))


def seconds(samples: int) -> np.ndarray:
    """[samples]: the time of each."""
    return np.arange(samples) / SAMPLE_RATE


def unit(samples: int) -> np.ndarray:
    """[samples] from 0 to below 1."""
    return np.arange(samples) / samples


SOUNDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "noise": noise,
    "silence": silence,
    "tone": tone,
    "hum": hum,
    "siren": siren,
    "melody": melody,
    "chords": chords,
    "clicks": clicks,
    "knocks": knocks,
    "wind": wind,
}
