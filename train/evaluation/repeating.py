"""Words understood: a model says back what it heard, and the judge writes down the same recording.

Their difference is what the model's ear is worth, whatever the recordings are like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omni.audio import load_audio
from omni.metrics import word_error_rate
from train.data import Example
from train.evaluation.journal import Journal
from train.evaluation.listeners import Listeners
from train.evaluation.report import right_share

# A record's kind, whose last answer is what was said, and its place in the report. Each is reported
# apart: prose has longer sentences and rarer words.
SAID_BACK = {"repeat": "words", "prose": "words_of_prose"}


def repeats(items: Sequence[Example], kind: str) -> list[Example]:
    """Those of this kind whose last question is a recording: it is to be said back."""
    return [item for item in items if item.kind == kind and item.question.speech is not None]


def transcribe(
    journal: Journal, listeners: Listeners, split: str, items: Sequence[Example]
) -> None:
    """What the judge itself hears in the recordings."""
    if items:
        journal.fill(
            f"judged {split}",
            items,
            lambda batch: [listeners.transcribe(load_audio(i.recordings[-1])) for i in batch],
        )


def report_words(
    journal: Journal, split: str, items: Sequence[Example], normaliser: str
) -> dict[str, Any]:
    """Word errors of what the model said back, as written text, and of the judge's transcription;
    the control is what it says back of another recording."""

    def rate(true: list[str], said: list[str]) -> float:
        return word_error_rate(true, said, normaliser=normaliser).rate

    def answers(label: str) -> list[str]:
        return [journal[f"{label} {split} {item.id}"]["text"] for item in items]

    wanted = [item.answer.text for item in items]
    asked = [item.question.text for item in items]
    own = rate(wanted, answers("answer"))
    judge = rate(asked, [journal[f"judged {split} {item.id}"]["full"] for item in items])
    return {
        "recordings": len(items),
        "wer": own,
        "wer_shuffled_audio": rate(wanted, answers("shuffled")),
        "wer_judge": judge,
        "above_judge": own - judge,
        "exact": right_share(journal, f"answer {split}", items),
    }
