"""From single results to the numbers that a model card states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from omni.metrics import character_error_rate, normalise, unit_error_rate, word_error_rate
from train.data import Example
from train.evaluation.journal import Journal
from train.evaluation.judges import NORMALISER, POCKETSPHINX, Ear

NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand".split()
)


def is_right(text: str, answer: str) -> bool:
    """The same words; case and punctuation do not count."""
    return normalise(text, NORMALISER) == normalise(answer, NORMALISER)


def agreement(text: str, answer: str) -> float:
    """How many words two answers share, of both: F1 as SQuAD has it, 1 for the same words.

    Of answers that may be put in many ways, where few can be right word for word.
    """
    said, true = (Counter(normalise(words, NORMALISER).split()) for words in (text, answer))
    shared = sum((said & true).values())
    return 2 * shared / (said.total() + true.total()) if shared else float(said == true)


def has_number(text: str) -> bool:
    """Whether a text says a number, in digits or words."""
    return not NUMBER_WORDS.isdisjoint(normalise(text, NORMALISER).split())


def right_share(journal: Journal, label: str, items: Sequence[Example]) -> float | None:
    """Of the answers under a label, how many are right."""
    return share_of(
        [is_right(journal[f"{label} {item.id}"]["text"], item.answer.text) for item in items]
    )


def report_answers(journal: Journal, label: str, items: Sequence[Example]) -> dict[str, Any]:
    """Right and agreeing answers under a label, of all questions and of each kind."""

    def numbers(chosen: Sequence[Example]) -> dict[str, Any]:
        close = [agreement(journal[f"{label} {i.id}"]["text"], i.answer.text) for i in chosen]
        return {
            "questions": len(chosen),
            "right": right_share(journal, label, chosen),
            "agreement": float(np.mean(close)) if close else None,
        }

    kinds = sorted({item.kind for item in items if item.kind})
    by_kind = {kind: numbers([item for item in items if item.kind == kind]) for kind in kinds}
    return numbers(items) | {"by_kind": by_kind}


def report_text(journal: Journal, split: str, items: Sequence[Example]) -> dict[str, Any]:
    """Right answers (also by skill and kind, with and without numbers, and with another's audio),
    agreement, CER and teacher-forced loss; unit errors where the manifest has units."""
    said = [journal[f"answer {split} {item.id}"]["text"] for item in items]
    true = [item.answer.text for item in items]
    right = {
        item.id: is_right(text, item.answer.text) for item, text in zip(items, said, strict=True)
    }
    forced = [journal[f"forced {split} {item.id}"] for item in items]

    def share(chosen: Sequence[Example]) -> float | None:
        return share_of([right[item.id] for item in chosen])

    report = report_answers(journal, f"answer {split}", items) | {
        "right_shuffled_audio": right_share(journal, f"shuffled {split}", items),
        "right_numbers": share([i for i in items if has_number(i.answer.text)]),
        "right_without_numbers": share([i for i in items if not has_number(i.answer.text)]),
        "right_by_skill": {
            skill: share([i for i in items if i.skill == skill])
            for skill in sorted({item.skill for item in items})
        },
        "cer": character_error_rate(true, said, normaliser=NORMALISER).rate,
        "loss": sum(row["loss"] for row in forced) / sum(row["tokens"] for row in forced),
    }
    pairs = [
        (item.answer.units, row["units"])
        for item, row in zip(items, forced, strict=True)
        if item.answer.units and row["units"] is not None
    ]
    if pairs:
        report["unit_error_rate"] = unit_error_rate(
            [list(units) for units, _ in pairs], [units for _, units in pairs]
        ).rate
    return report


@dataclass(frozen=True, kw_only=True)
class SpokenAnswers:
    """Which answers were vocoded, in which chunk schedules, and who heard them."""

    items: Sequence[Example]
    chunks: Sequence[str]
    ear: Ear = POCKETSPHINX


def report_speech(journal: Journal, split: str, spoken: SpokenAnswers) -> dict[str, Any]:
    """Word errors of what was heard against the text that the model itself said, and of the
    teacher's recording of the right answer, as it is and revoiced by the vocoder from its units;
    the differences to the teacher, of all and of equal sentences; DNSMOS of the same where it was
    measured; length relative to the teacher, of equal sentences."""
    items = spoken.items
    own = [journal[f"answer {split} {item.id}"]["text"] for item in items]
    teacher = [item for item in items if item.answer.speech is not None]
    natural = {item.id: journal[f"teacher {item.answer.text}"] for item in teacher}
    same = [
        item
        for item, text in zip(items, own, strict=True)
        if item.id in natural and is_right(text, item.answer.text)
    ]
    voiced = [item for item in teacher if item.answer.units]
    report: dict[str, Any] = {"sentences": len(items), "equal_sentences": len(same)}

    def errors(true: list[str], rows: Sequence[dict[str, Any]], ear: str) -> float | None:
        return _wer(true, [row[ear] for row in rows], spoken.ear.normaliser)

    def teachers(chosen: Sequence[Example], ear: str) -> float | None:
        return errors([i.answer.text for i in chosen], [natural[i.id] for i in chosen], ear)

    for ear in spoken.ear.listens(last=True):
        row, above, above_equal = {}, {}, {}
        of_all, of_same = teachers(teacher, ear), teachers(same, ear)
        for chunks in spoken.chunks:
            heard = {item.id: journal[f"spoken {chunks} {split} {item.id}"] for item in items}
            if not all(ear in words for words in heard.values()):
                continue
            row[chunks] = errors(own, list(heard.values()), ear)
            equal = errors([i.answer.text for i in same], [heard[i.id] for i in same], ear)
            above[chunks] = difference(row[chunks], of_all)
            above_equal[chunks] = difference(equal, of_same)
        row["teacher"] = of_all
        row["vocoder"] = errors(
            [item.answer.text for item in voiced],
            [journal[f"vocoder {item.answer.text}"] for item in voiced],
            ear,
        )
        report |= {
            f"wer_{ear}": row,
            f"above_teacher_{ear}": above,
            f"above_teacher_equal_{ear}": above_equal,
        }
    mean = {
        spoken.chunks[-1]: _mean_score(
            [journal[f"spoken {spoken.chunks[-1]} {split} {item.id}"] for item in items]
        ),
        "teacher": _mean_score(list(natural.values())),
        "vocoder": _mean_score([journal[f"vocoder {item.answer.text}"] for item in voiced]),
    }
    report["dnsmos"] = {name: score for name, score in mean.items() if score is not None}
    label = f"spoken {spoken.chunks[-1]} {split}"
    spoken_s = sum(journal[f"{label} {item.id}"]["seconds"] for item in same)
    natural_s = sum(natural[item.id]["seconds"] for item in same)
    report["duration_ratio"] = spoken_s / natural_s if natural_s else None
    return report


def report_timing(journal: Journal, chunks: str, items: Sequence[Example]) -> dict[str, float]:
    """Median and 95th percentile over the timed questions."""
    rows = [journal[f"timed {chunks} {item.id}"] for item in items]
    report: dict[str, float] = {}
    for name in ("first_audio_ms", "total_ms", "real_time_factor"):
        values = [row[name] for row in rows if row[name] is not None]
        if values:
            report[f"{name}_median"] = median(values)
            report[f"{name}_p95"] = float(np.percentile(values, 95))
    return report


def share_of(values: Sequence[bool]) -> float | None:
    """How many of the values are true; None of none."""
    return sum(values) / len(values) if values else None


def difference(one: float | None, other: float | None) -> float | None:
    """None where either was not measured."""
    return None if one is None or other is None else one - other


def _mean_score(rows: Sequence[dict[str, Any]]) -> float | None:
    """The mean DNSMOS of what was rated; None if nothing was."""
    scores = [row["dnsmos"] for row in rows if "dnsmos" in row]
    return float(np.mean(scores)) if scores else None


def _wer(true: list[str], heard: list[str], normaliser: str) -> float | None:
    """None where nothing was to be said: no rate exists."""
    if not any(normalise(text, normaliser) for text in true):
        return None
    return word_error_rate(true, heard, normaliser=normaliser).rate
