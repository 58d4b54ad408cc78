"""Neural voices: Piper's models (VITS as ONNX), run by onnxruntime, pronounced by espeak-ng.

A folder holds NAME.onnx and NAME.onnx.json for every voice, as they are published; the voice is
then `piper-NAME`. Nothing of the GPL program piper is used: espeak-ng is called, not linked.
"""

# pyright: reportMissingImports=false
# onnxruntime: the extra `voices` has it, which the checks may run without.

import json
import re
import unicodedata
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from data_tools.speech.speak import SAMPLE_RATE, find_program, require, run, trim_silence
from data_tools.speech.voices import Voice
from omni.files import UserError, need

START, PAD, END = "^", "_", "$"
CLAUSE = re.compile(r"([^.,?!;:]+)([.,?!;:]*)")  # words, and the marks that end them
# Models draw inside the graph, where no seed reaches; without noise a text always sounds the same.
NOISE = (0.0, 0.0)  # of the sound, of the durations


def piper_voices(folder: Path) -> list[str]:
    """The names of the voices in a folder, sorted.

    Raises UserError if there is none.
    """
    names = sorted(path.name.removesuffix(".onnx") for path in folder.glob("*.onnx"))
    if not names:
        raise UserError(f"{folder}: holds no NAME.onnx; put Piper's voices there, or leave it out")
    for name in names:
        if not (folder / f"{name}.onnx.json").is_file():
            raise UserError(f"{folder / name}.onnx: has no {name}.onnx.json beside it; fetch it")
    return names


class PiperVoice:
    """One model. Its files are read at once, the session starts with the first text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = json.loads(path.with_name(f"{path.name}.json").read_text())

    @cached_property
    def session(self) -> Any:
        """The running model. Its graph is read from the file at the first use."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a worker per core speaks already
        return onnxruntime.InferenceSession(
            str(self.path), options, providers=["CPUExecutionProvider"]
        )

    def speak(self, phonemes: str, *, speed: float) -> np.ndarray:
        """[samples] at 16 kHz."""
        ids = phoneme_ids(phonemes, self.config["phoneme_id_map"])
        length = float(self.config["inference"]["length_scale"]) / speed
        inputs = {
            "input": np.array([ids], dtype=np.int64),
            "input_lengths": np.array([len(ids)], dtype=np.int64),
            "scales": np.array([NOISE[0], length, NOISE[1]], dtype=np.float32),
        }
        if self.config.get("num_speakers", 1) > 1:
            inputs["sid"] = np.array([0], dtype=np.int64)
        sound = self.session.run(None, inputs)[0].reshape(-1)
        rate = self.config["audio"]["sample_rate"]
        return np.clip(soxr.resample(sound, rate, SAMPLE_RATE), -1.0, 1.0)


def phoneme_ids(phonemes: str, known: dict[str, list[int]]) -> list[int]:
    """As Piper trains: a start, then every sound with padding behind it, then the end."""
    ids = [*known[START], *known[PAD]]
    for sound in unicodedata.normalize("NFD", phonemes):
        if sound in known:
            ids += [*known[sound], *known[PAD]]
    return [*ids, *known[END]]


class PiperEngine:
    """All voices of a folder; each is loaded when it first speaks."""

    def __init__(self, folder: Path) -> None:
        need("onnxruntime", "voices", "a neural voice")
        self.program = find_program("espeak-ng", package="espeak-ng")
        self.voices = {name: PiperVoice(folder / f"{name}.onnx") for name in piper_voices(folder)}

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """As `TextToSpeech`, with speed. Raises ValueError for a voice that the folder lacks."""
        require(voice.name in self.voices, voice, f"the folder holds {', '.join(self.voices)}")
        model = self.voices[voice.name]
        speed = voice.number("speed") if voice.parameters else 1.0
        phonemes = self.phonemes(text, model.config["espeak"]["voice"])
        return trim_silence(model.speak(phonemes, speed=speed))

    def phonemes(self, text: str, language: str) -> str:
        """The text in IPA, with the marks between its clauses, which espeak-ng leaves out."""
        clauses = [
            (words.strip(), marks)
            for words, marks in CLAUSE.findall(text)
            if any(character.isalnum() for character in words)
        ]
        # One clause a line gives one line each, so that the marks find their place again.
        lines = "\n\n".join(words for words, _ in clauses)
        spoken = run([self.program, "-q", "--ipa", "-v", language, "--stdin"], lines)
        said = [line.strip() for line in spoken.splitlines() if line.strip()]
        if len(said) != len(clauses):  # a clause that espeak-ng itself breaks up
            return " ".join(said) + (clauses[-1][1] or ".")
        return " ".join(
            f"{line}{marks[:1]}" for line, (_, marks) in zip(said, clauses, strict=True)
        )

    def versions(self) -> dict[str, str]:
        """{"piper": the names of its voices}: other files speak differently."""
        return {"piper": ", ".join(self.voices)}

    def close(self) -> None:
        """Lets go of its models."""
        self.voices.clear()
