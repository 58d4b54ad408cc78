"""The report's main numbers as a table: a column per split, and how far the splits lie apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

SPREAD = "lowest to highest"
ENOUGH = 3  # splits, for a spread to say more than the columns
OTHERS = {"teacher": "teacher's voice", "vocoder": "vocoder on the teacher's units"}
# Name, where it lies in a split's report, and whether it is a share.
MEASURES: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("right answers", ("right",), True),
    ("  with numbers", ("right_numbers",), True),
    ("  without numbers", ("right_without_numbers",), True),
    ("  control: another question's audio", ("right_shuffled_audio",), True),
)
LATER: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("words understood: word errors of what is said back", ("words", "wer"), True),
    ("  the judge's own transcription", ("words", "wer_judge"), True),
    ("  above the judge's", ("words", "above_judge"), True),
    ("  control: another recording", ("words", "wer_shuffled_audio"), True),
    ("words understood of prose, likewise", ("words_of_prose", "wer"), True),
    ("  the judge's own transcription", ("words_of_prose", "wer_judge"), True),
    ("  above the judge's", ("words_of_prose", "above_judge"), True),
    ("  control: another recording", ("words_of_prose", "wer_shuffled_audio"), True),
    ("questions refused", ("questions_refused",), True),
    ("  control: another question's audio", ("questions_refused_shuffled_audio",), True),
    ("sounds refused", ("refused", "sound"), True),
    ("other languages refused", ("refused", "language"), True),
    ("what can't be known refused", ("refused", "unknown"), True),
    ("character errors", ("cer",), True),
    ("loss per token", ("loss",), False),
    ("unit errors", ("unit_error_rate",), True),
)


def measures(report: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """(name, place in a split's report, whether it is a share) of every row, in order."""
    yield from MEASURES
    splits = report["splits"].values()
    kinds = dict.fromkeys(kind for found in splits for kind in found.get("by_kind", ()))
    for kind in kinds:
        yield f"  {kind}", ("by_kind", kind, "right"), True
    if kinds:
        yield "words shared with the true answer (F1)", ("agreement",), True
    for kind in kinds:
        yield f"  {kind}", ("by_kind", kind, "agreement"), True
    yield from LATER
    for ear in ("domain", "full"):
        for chunks in [*report.get("timing", {}), *OTHERS]:
            name = OTHERS.get(chunks, f"chunks of {chunks}")
            yield f"word errors heard ({ear}), {name}", ("speech", f"wer_{ear}", chunks), True
        for chunks in report.get("timing", {}):
            above = ("speech", f"above_teacher_{ear}", chunks)
            yield f"  above the teacher's ({ear}), chunks of {chunks}", above, True
            equal = ("speech", f"above_teacher_equal_{ear}", chunks)
            yield f"  of equal sentences ({ear}), chunks of {chunks}", equal, True
    for chunks in [*report.get("timing", {}), *OTHERS]:
        name = OTHERS.get(chunks, f"chunks of {chunks}")
        yield f"DNSMOS, {name}", ("speech", "dnsmos", chunks), False
    yield "length of the speech, teacher = 1", ("speech", "duration_ratio"), False


def table_head(report: Mapping[str, Any]) -> list[str]:
    """The names of the columns behind the first; the spread's is the last, if there is one."""
    return [*report["splits"], *([SPREAD] if len(_compared(report)) >= ENOUGH else [])]


def table_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(name, one cell per column of `table_head`), for a terminal or a model card."""
    spreads = report_spread(report)
    rows: list[tuple[str, ...]] = []
    for name, path, share in measures(report):
        values = [_value(found, path) for found in report["splits"].values()]
        if all(value is None for value in values):
            continue
        cells = [_shown(value, share) for value in values]
        if len(_compared(report)) >= ENOUGH:
            spread = spreads.get(".".join(path))
            ends = "-" if spread is None else (
                f"{_shown(spread['lowest'], share)} to {_shown(spread['highest'], share)}"
            )  # fmt: skip
            cells.append(ends)
        rows.append((name, *cells))
    return rows


def report_spread(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of every measure that enough splits have: lowest, median, highest.

    Splits without an ordinary question stand aside: what is right there is a refusal.
    """
    found = {}
    for _, path, _ in measures(report):
        values = [_value(split, path) for split in _compared(report)]
        there = [value for value in values if value is not None]
        if len(there) >= ENOUGH:
            found[".".join(path)] = {
                "lowest": min(there), "median": median(there), "highest": max(there),
            }  # fmt: skip
    return found


def _compared(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [found for found in report["splits"].values() if found.get("ordinary", 1)]


def _value(found: Any, path: tuple[str, ...]) -> float | None:
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _shown(value: float | None, share: bool) -> str:
    return "-" if value is None else f"{value:.1%}" if share else f"{value:.3f}"
