"""Rows of foreign data sets: written to files, and read as records."""

import json
from pathlib import Path
from typing import Any

from data_tools.manifest.record import Record
from data_tools.sources.reading import ImportConfig, import_records

QUESTION, ANSWER = "How are you?", "Fine."
SHARED = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]


def write(path: Path, *rows: Any) -> str:
    """A JSON list or JSON lines, by the suffix."""
    lines = [json.dumps(row) for row in rows]
    text = "[\n" + ",\n".join(lines) + "\n]" if path.suffix == ".json" else "\n".join(lines)
    path.write_text(text + "\n")
    return str(path)


def read(source: str, **options: Any) -> list[Record]:
    return import_records(source, ImportConfig(**options)).records


def texts(record: Record) -> list[str]:
    return [turn.text for turn in record.turns]
