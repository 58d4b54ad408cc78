"""Rows of a foreign data set, each with its place for error messages."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from data_tools.manifest import jsonl_rows
from omni.files import UserError, open_text

SUFFIXES = (".json", ".jsonl", ".parquet", ".csv", ".tsv")
WRAPPERS = ("data", "rows", "examples", "items", "records")  # fields that hold the rows
SAVED = ("state.json", "dataset_dict.json")  # one of them is in what `save_to_disk` wrote


def file_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, row) of JSON, JSON lines, CSV or Parquet; the place is file:line (row in Parquet).

    Raises ValueError for a file that isn't what its name says.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: must end in {', '.join(SUFFIXES)}; convert or rename it")
    if path.suffix == ".parquet":
        yield from parquet_rows(path)
    elif path.suffix in (".csv", ".tsv"):
        yield from table_rows(path)
    elif starts_with(path, "["):  # many call a list .jsonl, or lines .json
        yield from list_rows(path)
    elif path.suffix == ".json" and (wrapped := wrapped_rows(path)) is not None:
        yield from wrapped
    else:
        yield from jsonl_rows(path)


def starts_with(path: Path, character: str) -> bool:
    """Whether the first line that is not blank begins with the character."""
    with open_text(path) as file:
        return next((line for line in file if line.strip()), "").lstrip().startswith(character)


def list_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The items of a JSON list, with the line that each starts in."""
    with open_text(path) as file:
        text = file.read()
    decoder = json.JSONDecoder()
    at, line, counted = text.index("[") + 1, 1, 0

    def skip_space(at: int) -> int:
        while at < len(text) and text[at].isspace():
            at += 1
        return at

    at = skip_space(at)
    while not text.startswith("]", at):
        line, counted = line + text.count("\n", counted, at), at
        try:
            row, at = decoder.raw_decode(text, at)
            at = skip_space(at)
            if not text.startswith((",", "]"), at):
                raise json.JSONDecodeError("expecting ',' or ']' after it", text, at)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}:{error.lineno}: not JSON ({error.msg}); mend it, the item starts in line "
                f"{line}"
            ) from None
        yield f"{path}:{line}", row
        if text.startswith(",", at):
            at = skip_space(at + 1)


def wrapped_rows(path: Path) -> Iterator[tuple[str, Any]] | None:
    """("PATH[FIELD]:NUMBER", row) of a file that is one object around a list of rows; None if it is
    something else."""
    try:
        with open_text(path) as file:
            written = (line for line in file if line.strip())
            first, second = next(written, ""), next(written, "")
            if second and first.rstrip().endswith("}"):
                return None  # lines, of which there may be many
            whole = json.loads(first + second + file.read())
    except json.JSONDecodeError:  # lines after all, or no JSON
        return None
    if not isinstance(whole, dict):
        return None
    lists = {
        name: rows
        for name in WRAPPERS
        if isinstance(rows := whole.get(name), list) and any(isinstance(row, dict) for row in rows)
    }
    if len(lists) != 1:
        return None
    ((field, rows),) = lists.items()
    return ((f"{path}[{field}]:{number}", row) for number, row in enumerate(rows, start=1))


def table_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a table whose first line names its columns; empty fields are none.

    Quotation marks are as in any text in .tsv, as in Common Voice; in .csv they enclose a field.
    """
    form: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    with open_text(path, newline="") as file:
        rows = csv.DictReader(file, restkey="", **(form if path.suffix == ".tsv" else {}))
        try:
            for row in rows:
                if "" in row:
                    raise csv.Error("more fields than columns")
                yield f"{path}:{rows.line_num}", {name: row[name] or None for name in row}
        except csv.Error as error:
            raise UserError(
                f"{path}:{rows.line_num}: {error}; put fields with commas, quotation marks or line "
                "ends in quotation marks"
            ) from None


def parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """("PATH:NUMBER", row) of each. Raises UserError if the file is no parquet."""
    import pyarrow  # here: JSON needs none of it
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(100) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield f"{path}:{number}", row
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path}: not a parquet file ({error}); fetch it again") from None


def hub_rows(
    name: str, *, config: str | None = None, split: str = "train", limit: int | None = None
) -> Iterator[tuple[str, Any]]:
    """The rows of a data set of the hub, or of a folder that `datasets` can read or has saved.

    config, split: as the data set's page names them. limit: fetches no more than that.
    Raises UserError if the hub can't be reached or doesn't know it.
    """
    from datasets import Audio, DatasetDict, load_dataset, load_from_disk  # here: it takes a second
    from datasets.exceptions import DatasetGenerationError

    try:
        if any((Path(name) / file).is_file() for file in SAVED):
            rows = load_from_disk(name)
            rows = rows[split] if isinstance(rows, DatasetDict) else rows
        else:
            rows = load_dataset(name, config, split=split, streaming=limit is not None)
        for column, kind in (rows.features or {}).items():
            if isinstance(kind, Audio):
                rows = rows.cast_column(column, Audio(decode=False))
        for number, row in enumerate(islice(rows, limit), start=1):
            yield f"{name}[{split}]:{number}", row
    # ConnectionError and DatasetNotFoundError are OSErrors; for sound `datasets` wants a package.
    except (OSError, ValueError, KeyError, ImportError, DatasetGenerationError) as error:
        cause = error.__cause__ if isinstance(error, DatasetGenerationError) else error
        reason = " ".join(str(cause).split())
        raise UserError(
            f"hub:{name}: can't be read ({reason}); check name, config, split and network, or "
            "download its files and import those"
        ) from None
