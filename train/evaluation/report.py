"""From single results to the numbers that a model card states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from omni.metrics import character_error_rate, normalise, unit_error_rate, word_error_rate
from train.data import Example
from train.evaluation.journal import Journal
from train.evaluation.judges import NORMALISER

NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand".split()
)


def is_right(text: str, answer: str) -> bool:
    """The same words; case and punctuation do not count."""
    return normalise(text, NORMALISER) == normalise(answer, NORMALISER)


def has_number(text: str) -> bool:
    """Whether a text says a number, in digits or words."""
    return not NUMBER_WORDS.isdisjoint(normalise(text, NORMALISER).split())


def right_share(journal: Journal, label: str, items: Sequence[Example]) -> float | None:
    """Of the answers under a label, how many are right."""
    return _share(
        [is_right(journal[f"{label} {item.id}"]["text"], item.answer.text) for item in items]
    )


def report_text(journal: Journal, split: str, items: Sequence[Example]) -> dict[str, Any]:
    """Right answers (also by skill, with and without numbers, and with another's audio), CER and
    teacher-forced loss; unit errors where the manifest has units."""
    said = [journal[f"answer {split} {item.id}"]["text"] for item in items]
    true = [item.answer.text for item in items]
    right = {
        item.id: is_right(text, item.answer.text) for item, text in zip(items, said, strict=True)
    }
    forced = [journal[f"forced {split} {item.id}"] for item in items]

    def share(chosen: Sequence[Example]) -> float | None:
        return _share([right[item.id] for item in chosen])

    report: dict[str, Any] = {
        "questions": len(items),
        "right": share(items),
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
    """Which answers were vocoded, and in which chunk schedules."""

    items: Sequence[Example]
    chunks: Sequence[str]


def report_speech(journal: Journal, split: str, spoken: SpokenAnswers) -> dict[str, Any]:
    """Word errors of what was heard against the text that the model itself said, and of the
    teacher's recording of the right answer, as it is and revoiced by the vocoder from its units;
    DNSMOS of the same where it was measured; length relative to the teacher, of equal sentences."""
    items = spoken.items
    own = [journal[f"answer {split} {item.id}"]["text"] for item in items]
    teacher = [item for item in items if item.answer.speech is not None]
    natural = {item.id: journal[f"teacher {item.answer.text}"] for item in teacher}
    report: dict[str, Any] = {"sentences": len(items)}
    for ear in ("domain", "full"):
        row = {}
        for chunks in spoken.chunks:
            heard = [journal[f"spoken {chunks} {split} {item.id}"] for item in items]
            if all(ear in words for words in heard):
                row[chunks] = _wer(own, [words[ear] for words in heard])
        true = [item.answer.text for item in teacher]
        row["teacher"] = _wer(true, [natural[item.id][ear] for item in teacher])
        voiced = [item for item in teacher if item.answer.units]
        row["vocoder"] = _wer(
            [item.answer.text for item in voiced],
            [journal[f"vocoder {item.answer.text}"][ear] for item in voiced],
        )
        report[f"wer_{ear}"] = row
    mean = {
        spoken.chunks[-1]: _mean_score(
            [journal[f"spoken {spoken.chunks[-1]} {split} {item.id}"] for item in items]
        ),
        "teacher": _mean_score(list(natural.values())),
        "vocoder": _mean_score([journal[f"vocoder {item.answer.text}"] for item in voiced]),
    }
    report["dnsmos"] = {name: score for name, score in mean.items() if score is not None}
    same = [
        item
        for item, text in zip(items, own, strict=True)
        if item.id in natural and is_right(text, item.answer.text)
    ]
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


def table_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The report's main numbers as (name, one cell per split), for a terminal or a model card."""
    splits = list(report["splits"])
    rows: list[tuple[str, ...]] = []

    def row(name: str, *path: str, percent: bool = True) -> None:
        cells = []
        for split in splits:
            value: Any = report["splits"][split]
            for part in path:
                value = value.get(part) if isinstance(value, dict) else None
            cells.append("-" if value is None else f"{value:.1%}" if percent else f"{value:.3f}")
        if any(cell != "-" for cell in cells):
            rows.append((name, *cells))

    row("right answers", "right")
    row("  with numbers", "right_numbers")
    row("  without numbers", "right_without_numbers")
    row("  control: another question's audio", "right_shuffled_audio")
    row("character errors", "cer")
    row("loss per token", "loss", percent=False)
    row("unit errors", "unit_error_rate")
    others = {"teacher": "teacher's voice", "vocoder": "vocoder on the teacher's units"}
    for ear in ("domain", "full"):
        for chunks in [*report.get("timing", {}), *others]:
            name = others.get(chunks, f"chunks of {chunks}")
            row(f"word errors heard ({ear}), {name}", "speech", f"wer_{ear}", chunks)
    for name in [*report.get("timing", {}), *others]:
        shown = others.get(name, f"chunks of {name}")
        row(f"DNSMOS, {shown}", "speech", "dnsmos", name, percent=False)
    row("length of the speech, teacher = 1", "speech", "duration_ratio", percent=False)
    return rows


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _mean_score(rows: Sequence[dict[str, Any]]) -> float | None:
    """The mean DNSMOS of what was rated; None if nothing was."""
    scores = [row["dnsmos"] for row in rows if "dnsmos" in row]
    return float(np.mean(scores)) if scores else None


def _wer(true: list[str], heard: list[str]) -> float | None:
    """None where nothing was to be said: no rate exists."""
    if not any(normalise(text, NORMALISER) for text in true):
        return None
    return word_error_rate(true, heard, normaliser=NORMALISER).rate
