"""Manifests as Parquet: the columns that HF `datasets` knows, and audio carried inside them.

Rows are the dicts of `manifest.row_from_record`. Provenance is stored as a list of pairs, because
its keys differ from record to record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from omni.files import UserError, write_bytes, write_once

GROUP = 100  # rows held in memory at a time: with audio inside about 50 MB


def write_rows(path: Path, rows: Iterable[dict[str, Any]], *, audio_root: Path | None) -> None:
    """Writes the rows group by group.

    audio_root: carries the audio inside, read from the files that `speech` names from there; None
    leaves `speech` a path.
    """
    import pyarrow  # here and below: .jsonl needs none of it
    from pyarrow.parquet import ParquetWriter

    schema = features(audio_inside=audio_root is not None).arrow_schema
    rows = iter(rows)
    with ParquetWriter(path, schema) as writer:
        while group := [stored(row, audio_root) for row in islice(rows, GROUP)]:
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def read_rows(path: Path, audio_folder: Path) -> Iterator[dict[str, Any]]:
    """The rows; audio inside them is laid into `audio_folder`, and `speech` becomes its path.

    That path starts from the file's folder where it can.
    Raises ValueError if the file is no Parquet.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=GROUP):
                for row in batch.to_pylist():
                    yield loaded(row, audio_folder, path.parent)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path}: not a parquet file ({error}); write it again") from error


def features(*, audio_inside: bool) -> Any:
    """The columns, also found by `datasets.load_dataset`, since they are written in the schema."""
    from datasets import Audio, Features, List, Value

    text = Value("string")
    turn = {
        "role": text,
        "text": text,
        # Undecoded: a reader gets {bytes, path} and needs no audio library to open the file.
        "speech": Audio(decode=False) if audio_inside else text,
        "units": List(Value("int32")),
        "voice": text,
    }
    return Features(
        {
            "id": text,
            "turns": List(turn),
            "language": text,
            "split": text,
            "provenance": List({"key": text, "value": text}),
        }
    )


def stored(row: dict[str, Any], audio_root: Path | None) -> dict[str, Any]:
    """A row as the parquet file has it; audio_root: from where recordings are taken in, or None."""
    pairs = [{"key": key, "value": value} for key, value in row["provenance"].items()]
    turns = row["turns"]
    if audio_root is not None:
        turns = [
            turn | {"speech": turn["speech"] and embedded(audio_root / turn["speech"], row["id"])}
            for turn in turns
        ]
    return row | {"provenance": pairs, "turns": turns}


def embedded(path: Path, record: str) -> dict[str, Any]:
    """A recording as datasets' Audio has it. Raises UserError if the file is missing."""
    try:
        return {"bytes": path.read_bytes(), "path": path.name}
    except FileNotFoundError:
        raise UserError(
            f"record {record!r}: its recording {path} is missing; make it again, or write the "
            "manifest without the audio inside"
        ) from None


def loaded(row: dict[str, Any], audio_folder: Path, root: Path) -> dict[str, Any]:
    """The row as `manifest.record_from_row` takes it."""
    pairs = row.get("provenance")
    if isinstance(pairs, list):
        row["provenance"] = {pair["key"]: pair["value"] for pair in pairs}
    for turn in row.get("turns") or ():
        if isinstance(turn, dict) and isinstance(turn.get("speech"), dict):
            turn["speech"] = laid_out(turn["speech"], audio_folder, root)
    return row


def laid_out(audio: dict[str, Any], folder: Path, root: Path) -> str | None:
    """Where the audio now lies: a file named by its content, written once.

    audio: {"bytes", "path"}; without bytes the path is all there is.
    """
    data = audio.get("bytes")
    if data is None:
        return audio.get("path")
    suffix = Path(audio.get("path") or "").suffix.lower()
    name = hashlib.sha256(data).hexdigest()[:32] + (suffix if suffix[1:].isalnum() else ".wav")
    path = folder / name
    try:
        write_once(path, lambda: write_bytes(path, data))
    except OSError as error:
        raise UserError(
            f"{folder}: the audio inside the manifest can't be laid out there ({error}); name "
            "another audio_folder"
        ) from error
    return str(path.relative_to(root) if path.is_relative_to(root) else path.resolve())
