"""A recogniser that judges spoken answers: one method, and `Evaluation` takes it.

    python examples/recogniser.py

This one hears only how long something was. A real one runs a speech recogniser in `hear`.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import omni
from data_tools.manifest import Manifest, Record, RecordTurn
from train.evaluation import Ear, Evaluation, EvaluationConfig


class Counter:
    """A recogniser, made by an `Ear`."""

    def __init__(self, sentences: Sequence[str] | None) -> None:
        """sentences: of the domain, for a recogniser that can be told them; None for any speech."""

    def hear(self, waveform: np.ndarray) -> str:
        """[samples] float at 16 kHz -> the words heard."""
        words = round(len(waveform) / 16_000 * 2.5)  # of an even speaker
        return " ".join(["word"] * words)


if __name__ == "__main__":
    question = str(Path(omni.__file__).parent / "nano/questions/1-capital-of-france.wav")
    turns = (
        RecordTurn(role="user", text="What is the capital of France?", speech=question),
        RecordTurn(role="assistant", text="The capital of France is Paris."),
    )
    asked = Manifest(
        root=Path(), records=[Record(id="1", language="en", split="test", turns=turns)]
    )
    config = EvaluationConfig(splits=("test",), chunks=("10",), spoken=1, timed=1)
    with tempfile.TemporaryDirectory() as folder:
        ear = Ear(make=Counter, name="counter", normaliser="basic")
        evaluation = Evaluation(str(omni.NANO), asked, config, Path(folder), recogniser=ear)
        report = evaluation.run()
    print(f"right: {report['splits']['test']['right']:.0%}")
