"""A speech engine for the data tools: one class with three methods, and a name for it.

    python examples/tts_engine.py

This one hums: a tone per letter. A real engine runs a model or a program in `speak`.
"""

from dataclasses import dataclass

import numpy as np

from data_tools.speech import ENGINE_CONFIGS, PARAMETERS, Voice, engine_config

SAMPLE_RATE = 16_000
LETTER_S = 0.08


@dataclass(frozen=True, kw_only=True)
class HumConfig:
    """What a recipe may set; frozen, so that it can travel to another process."""

    lowest_hz: float = 120.0

    def build(self) -> "Hum":
        return Hum(self)


class Hum:
    """A `data_tools.speech.TextToSpeech`."""

    def __init__(self, config: HumConfig) -> None:
        self.config = config

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """[samples] float32 in -1..1 at 16 kHz, equal for equal arguments."""
        time = np.arange(round(LETTER_S * SAMPLE_RATE)) / SAMPLE_RATE
        octave = voice.number("octave") if dict(voice.parameters) else 0.0
        tones = [self.config.lowest_hz * 2 ** (octave + ord(c) % 24 / 12) for c in text.lower()]
        fade = np.hanning(len(time))
        return np.concatenate([0.3 * fade * np.sin(2 * np.pi * hz * time) for hz in tones]).astype(
            np.float32
        )

    def versions(self) -> dict[str, str]:
        return {"hum": "1"}

    def close(self) -> None:
        """Nothing keeps running."""


ENGINE_CONFIGS["hum"] = HumConfig  # from now on recipes may say {"engine": "hum"}
PARAMETERS["hum"] = ("octave",)  # and voices may be written hum-default:octave=1

if __name__ == "__main__":
    engine = engine_config("hum", lowest_hz=150.0).build()
    waveform = engine.speak("Where is the station?", Voice("hum", "default"))
    print(f"{len(waveform) / SAMPLE_RATE:.2f} s, peak {abs(waveform).max():.2f}")
