"""Who asks: many voices for training, and several that are only heard in tests."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from data_tools.speech import (
    HELD_OUT_VOICE,
    InstalledEngines,
    PiperEngine,
    SoundEngine,
    TextToSpeech,
    Voice,
    draw_voice,
    piper_voices,
    training_voices,
)

# Of every engine a speaker that training never hears; of espeak accent and variant at once.
HELD_OUT = {
    "rms": HELD_OUT_VOICE,
    "ked": Voice("festival", "ked_diphone"),
    "midlands": Voice("espeak", "en-gb-x-gbcwmd", (("variant", "robert"),)),
}
HELD_OUT_PIPER = "joe"  # Piper's voice of this name, if its folder is given
SHARES = {"flite": 0.4, "festival": 0.2, "espeak": 0.4}
NEURAL_SHARE = 0.4  # of the questions, where there are neural voices to train on
SPEEDS = ("0.8", "0.9", "1", "1.1", "1.25")


@dataclass(frozen=True)
class Voices:
    """training: by engine. shares: of the engines. held_out: name of a test split -> its voice."""

    training: dict[str, tuple[Voice, ...]]
    shares: dict[str, float]
    held_out: dict[str, Voice]

    def draw(self, rng: np.random.Generator) -> Voice:
        """A voice of training: first an engine by its share, then one of its voices."""
        return draw_voice(rng, self.training, self.shares)


def asking_voices(piper: Path | None = None) -> Voices:
    """piper: a folder of Piper's voices, one of which may be the held-out `joe`."""
    debian = training_voices()
    accents = ("en-gb-x-rp", "en-gb-scotland", "en-us", "en-us-nyc", "en-029", "en-gb-x-gbclan")
    variants = ("Alex", "Gene", "Lee", "Mario", "Denis", "Alicia", "belinda", "paul", "steph2")
    more = product(accents, variants, ("40", "60"), ("120", "145", "170", "200"))
    training = {
        # The 8 kHz voice stands for all that comes through a telephone.
        "flite": debian["flite"]
        + tuple(Voice("flite", "kal", (("stretch", stretch),)) for stretch in SPEEDS),
        "festival": tuple(v for v in debian["festival"] if v.name != HELD_OUT["ked"].name),
        "espeak": debian["espeak"]
        + tuple(
            Voice("espeak", accent, (("variant", variant), ("pitch", pitch), ("speed", speed)))
            for accent, variant, pitch, speed in more
        ),
    }
    shares, held_out = dict(SHARES), dict(HELD_OUT)
    names = [] if piper is None else piper_voices(piper)
    for name in names:
        if HELD_OUT_PIPER in name.split("-"):
            held_out[HELD_OUT_PIPER] = Voice("piper", name)
    neural = tuple(
        Voice("piper", name, (("speed", speed),))
        for name in names
        if Voice("piper", name) not in held_out.values()
        for speed in SPEEDS
    )
    if neural:
        training["piper"] = neural
        shares = {name: (1 - NEURAL_SHARE) * share for name, share in shares.items()}
        shares["piper"] = NEURAL_SHARE
    return Voices(training, shares, held_out)


def engines(piper: Path | None = None) -> TextToSpeech:
    """All that the voices and the sounds need, as one engine."""
    more: dict[str, Callable[[], TextToSpeech]] = {"sound": SoundEngine}
    if piper is not None:
        more["piper"] = partial(PiperEngine, piper)
    return InstalledEngines(more)
