"""A step's memory: what it has made, line by line, each batch under the keys of its records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.manifest import Record, record_from_row, row_from_record, without_nulls
from omni.files import read_lines, write_lines


@dataclass(frozen=True)
class LeftOut:
    """Instead of a record: why the step can't make one."""

    reason: str


def read_journal(path: Path) -> Iterator[tuple[str, Record | LeftOut]]:
    """(key, result) of every whole line."""
    for batch in read_lines(path):
        for key, row in batch:
            yield key, LeftOut(row) if isinstance(row, str) else record_from_row(row)


def write_journal(path: Path, results: Iterable[tuple[str, Record | LeftOut]]) -> None:
    """The whole journal anew: aside first, then renamed."""
    write_lines(path, (journal_row([pair]) for pair in results))


def journal_row(pairs: Sequence[tuple[str, Record | LeftOut]]) -> list[list[Any]]:
    """One batch, so that a kill keeps or loses it as a whole."""
    return [
        [key, r.reason if isinstance(r, LeftOut) else without_nulls(row_from_record(r))]
        for key, r in pairs
    ]
