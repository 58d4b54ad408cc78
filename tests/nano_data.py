"""A small domain and an engine of tones, from which the tests make the nano's data set."""

import hashlib
from pathlib import Path

import numpy as np

from data_tools.manifest.record import Manifest
from data_tools.nano.asks import KNOWN, WIDE
from data_tools.nano.data import Summary, build_nano
from data_tools.speech.voices import Voice
from data_tools.talk import REFUSE, Ask


def ask(number: int, split: str, *, turns: int = 1, kind: str = KNOWN) -> Ask:
    return Ask(
        kind=kind,
        skill="sums",
        template=f"sums/{number}",
        split=split,
        turns=tuple(
            (f"{split} {kind} question {number} part {part}?", f"Answer {number % 3}.")
            for part in range(turns)
        ),
        source="test",
        name=f"sums-{kind}-{split}-{number}",
    )


def refused(number: int, split: str, *, heard: bool = False) -> Ask:
    """A sound, or with `heard` a question that nobody could answer."""
    return Ask(
        kind=REFUSE,
        skill="now" if heard else "sound",
        template="",
        split=split,
        turns=((f"What is now {split} {number}?", "No.") if heard else ("", "What?"),),
        source="test",
        voice=None if heard else Voice("sound", "noise", (("seed", str(number)),)),
    )


ASKS = {
    KNOWN: [
        *(ask(number, "train") for number in range(4)),
        ask(4, "train", turns=2),
        ask(5, "validation"),
        ask(6, "test", turns=2),
        ask(7, "test"),
    ],
    WIDE: [
        *(ask(number, "train", kind=WIDE) for number in range(8)),
        ask(8, "validation", kind=WIDE),
        ask(9, "test", kind=WIDE),
    ],
    REFUSE: [
        refused(0, "train"),
        refused(1, "train", heard=True),
        refused(2, "validation"),
        refused(3, "test"),
        refused(4, "test", heard=True),
    ],
}


class Tones:
    """Speaks a tone that depends on text and voice, as an engine does; may fail part of the way."""

    def __init__(self, *, clips_until_failure: int = 1000, version: str = "1") -> None:
        self.left = clips_until_failure
        self.version = version
        self.closed = False

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        if self.left == 0:
            raise ValueError(f"text {text!r}: the engine fell over")
        self.left -= 1
        number = int.from_bytes(hashlib.sha256(f"{voice} {text}".encode()).digest()[:4])
        samples = np.arange(1600 + number % 1600, dtype=np.float32)
        return np.sin(samples * (0.01 + number % 997 / 1000)).astype(np.float32)

    def versions(self) -> dict[str, str]:
        return {"tones": self.version}

    def close(self) -> None:
        self.closed = True


def build(folder: Path, **options: object) -> Summary:
    settings = {"questions": 20, "workers": 2, "make_tts": Tones} | options
    return build_nano(folder, ASKS, **settings)  # type: ignore[arg-type]


def split(manifest: Manifest, name: str) -> list:
    return [record for record in manifest.records if record.split == name]
