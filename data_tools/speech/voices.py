"""Who speaks: voices as data, those of the questions, of the answers and of the tests.

A `Voice` has a text form, such as `flite-slt:stretch=1.1,f0=150`; `speak` makes it heard.
"""

import itertools
import re
from dataclasses import dataclass
from functools import cache

import numpy as np

PARAMETERS: dict[str, tuple[str, ...]] = {
    "flite": ("stretch", "f0"),
    "espeak": ("variant", "pitch", "speed"),
    "festival": ("stretch",),
    "transformers": (),
    "openai": ("speed",),
    "command": (),
    "piper": ("speed",),
    "sound": ("seed",),
}


@dataclass(frozen=True)
class Voice:
    """engine: flite, espeak or festival, piper, sound, or one of `tts`. name: the engine's voice,
    for espeak its language or accent, for `tts` a speaker that the model, server or program knows.

    parameters: (key, value) pairs. stretch: duration factor, 1 is the voice's own pace (flite and
    festival's diphone voices). f0: mean pitch in Hz (flite slt, awb, kal16; rms ignores it).
    variant: espeak's FILE name such as f2. pitch: 0 to 99. speed: words per minute; for openai and
    piper a factor. seed: draws a sound.
    """

    engine: str
    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.engine not in PARAMETERS:
            raise ValueError(f"engine {self.engine!r}: must be one of {', '.join(PARAMETERS)}")
        for key, _ in self.parameters:
            if key not in PARAMETERS[self.engine]:
                known = ", ".join(PARAMETERS[self.engine])
                raise ValueError(f"parameter {key!r}: {self.engine} takes {known}")

    def __str__(self) -> str:
        pairs = ",".join(f"{key}={value}" for key, value in self.parameters)
        return f"{self.engine}-{self.name}" + (f":{pairs}" if pairs else "")

    def number(self, key: str) -> float:
        """The parameter's value. Raises ValueError if it is no number."""
        value = dict(self.parameters)[key]
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"voice {self}: {key}={value!r} must be a number") from None

    @classmethod
    def parse(cls, text: str) -> "Voice":
        """The voice whose text form this is."""
        match = re.fullmatch(r"([^-:]+)-([^:]+)(?::(.+))?", text)
        pairs = [pair.partition("=") for pair in match[3].split(",")] if match and match[3] else []
        if not match or not all(key and value for key, _, value in pairs):
            raise ValueError(
                f"voice {text!r}: write it as flite-slt or flite-slt:stretch=1.1,f0=150"
            )
        return cls(match[1], match[2], tuple((key, value) for key, _, value in pairs))


ANSWER_VOICE = Voice("flite", "slt")
HELD_OUT_VOICE = Voice("flite", "rms")  # for testing only: never in `training_voices`
TRAINING_SHARE = {"flite": 0.5, "festival": 0.25, "espeak": 0.25}  # by how natural they sound


def is_sound(voice: str | None) -> bool:
    """Whether what this voice makes is no speech, so that it has no text."""
    return voice is not None and voice.startswith("sound-")


@cache
def training_voices() -> dict[str, tuple[Voice, ...]]:
    """The voices of the questions by engine, from which `random_training_voice` draws."""
    stretches = ("0.8", "0.9", "1", "1.1", "1.25")
    mean_f0 = {  # Hz, about the voice's own pitch
        "slt": ("140", "155", "170", "190", "215"),
        "awb": ("95", "110", "125", "145", "170"),
        "kal16": ("80", "95", "110", "135", "165"),
    }
    accents = ("en-us", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-scotland", "en-us-nyc", "en-029")
    variants = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8")
    variants += ("klatt2", "linda", "steph", "adam", "edward", "Andy", "Michael", "Annie")
    return {
        "flite": tuple(
            Voice("flite", name, (("stretch", stretch), ("f0", f0)))
            for name in mean_f0
            for stretch, f0 in itertools.product(stretches, mean_f0[name])
        ),
        "festival": (
            Voice("festival", "cmu_us_slt_arctic_hts"),
            *(
                Voice("festival", name, (("stretch", stretch),))
                for name in ("kal_diphone", "ked_diphone")
                for stretch in ("0.85", "1", "1.15")
            ),
        ),
        "espeak": tuple(
            Voice("espeak", accent, (("variant", variant), ("pitch", pitch), ("speed", speed)))
            for accent, variant, pitch, speed in itertools.product(
                accents, variants, ("35", "50", "65"), ("130", "150", "175")
            )
        ),
    }


def random_training_voice(rng: np.random.Generator) -> Voice:
    """A voice of `training_voices` by `TRAINING_SHARE`."""
    return draw_voice(rng, training_voices(), TRAINING_SHARE)


def draw_voice(
    rng: np.random.Generator, voices: dict[str, tuple[Voice, ...]], shares: dict[str, float]
) -> Voice:
    """A voice by the shares of the engines; the speakers of an engine take equal parts of its."""
    engine = str(rng.choice(list(shares), p=list(shares.values())))
    speakers = sorted({voice.name for voice in voices[engine]})
    speaker = str(rng.choice(speakers))
    choices = [voice for voice in voices[engine] if voice.name == speaker]
    return choices[rng.integers(len(choices))]
