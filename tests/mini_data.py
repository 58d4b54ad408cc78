"""An engine of tones, from which the tests make the mini's data set."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.mini.data import Summary, build_mini
from data_tools.speech.voices import Voice


class Tones:
    """Speaks a tone that depends on text and voice, as an engine does; may fail part of the way."""

    def __init__(self, clips_until_failure: int = 10_000) -> None:
        self.left = clips_until_failure

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        if self.left == 0:
            raise ValueError("the engine fell over")
        self.left -= 1
        number = int.from_bytes(hashlib.sha256(f"{voice} {text}".encode()).digest()[:4])
        # As long as speech: `check` listens to it.
        samples = np.arange(1600 * (2 + len(text)) // 2, dtype=np.float32)
        return 0.3 * np.sin(samples * (0.1 + number % 97 / 100)).astype(np.float32)

    def versions(self) -> dict[str, str]:
        return {"tones": "1"}

    def close(self) -> None:
        pass


def build(folder: Path, texts: Path | None, **options: Any) -> Summary:
    settings = {"questions": 400, "workers": 2, "make_tts": Tones, "texts": texts} | options
    return build_mini(folder, **settings)
