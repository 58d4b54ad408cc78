"""The record: one spoken dialogue, and the files that hold many of them.

A manifest is a .jsonl file (one record per line, null fields left out) or a .parquet file with the
same columns. It is the only door from data into training.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omni.files import UserError, line_of, open_text, replace_file

ROLES = ("user", "assistant")
WRITTEN_TURNS = "written_turns"  # provenance: how many first user turns are meant to have no speech
TURN_FIELDS = ("role", "text", "speech", "units", "voice")
RECORD_FIELDS = ("id", "turns", "language", "split", "provenance")


def check_roles(roles: Sequence[str]) -> None:
    """Raises UserError unless these are one or both of ROLES."""
    if not roles or not set(roles) <= set(ROLES):
        raise UserError(f"roles={list(roles)}: must be one or both of {', '.join(ROLES)}")


@dataclass(frozen=True, kw_only=True)
class RecordTurn:
    """What one side says.

    speech: path of the audio, absolute or relative to the manifest's folder. A .parquet may carry
        the audio itself: reading lays it out as files.
    units: discrete units of that speech, consecutive repeats merged.
    voice: who speaks, for example the text form of a `speak.Voice`.
    """

    role: Literal["user", "assistant"]
    text: str
    speech: str | None = None
    units: tuple[int, ...] | None = None
    voice: str | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """One dialogue: user and assistant in turn, the user first.

    provenance: where it comes from, for example {"source": ..., "licence": ..., "skill": ...}.
    """

    id: str
    turns: tuple[RecordTurn, ...]
    language: str = "en"
    split: str = "train"
    provenance: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Records, and the folder that their relative audio paths start from; errors name it by its
    file, where it was read from one."""

    records: list[Record]
    root: Path
    file: Path | None = None

    def __str__(self) -> str:
        return str(self.file or self.root)

    def audio_path(self, turn: RecordTurn) -> Path:
        """Where the turn's speech lies. Raises ValueError if the turn has none."""
        if turn.speech is None:
            raise ValueError(f"turn {turn.text!r}: has no speech; speak it, or choose another turn")
        return self.root / turn.speech


def read_manifest(path: str | Path, *, audio_folder: Path | None = None) -> Manifest:
    """Reads .jsonl or .parquet.

    audio_folder: where audio that a .parquet carries is laid out; NAME.audio beside it by default.
    Raises ValueError that names file, line (row in .parquet, both from 1), rule and remedy.
    """
    path = Path(path)
    rows = parquet_rows(path, audio_folder) if is_parquet(path) else jsonl_rows(path)
    records: list[Record] = []
    first_seen: dict[str, str] = {}
    for place, row in rows:
        try:
            record = record_from_row(row)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        if record.id in first_seen:
            raise ValueError(
                f"{place}: id {record.id!r} is already that of {first_seen[record.id]}; "
                "ids must be unique: rename or remove one"
            )
        first_seen[record.id] = place
        records.append(record)
    return Manifest(records=records, root=path.parent, file=path)


def write_manifest(
    path: str | Path,
    records: Sequence[Record],
    *,
    embed_audio: bool = False,
    audio_root: Path | None = None,
) -> None:
    """Writes .jsonl or .parquet: aside first and then renamed, so never half a file.

    embed_audio: carries the recordings inside, as HF `datasets` does (.parquet only).
    audio_root: for that, where relative audio paths start; the manifest's folder by default.
    Raises UserError if a name or text is no UTF-8; file names need not be.
    """
    path = Path(path)
    parquet = is_parquet(path)
    if embed_audio and not parquet:
        raise ValueError(f"{path}: only .parquet can carry audio inside; rename it")
    rows = map(row_from_record, records)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replace_file(path) as aside:
            if parquet:
                from data_tools.manifest.parquet import write_rows

                root = (audio_root or path.parent) if embed_audio else None
                write_rows(aside, rows, audio_root=root)
            else:
                with aside.open("wb") as file:
                    file.writelines(map(line_of, map(without_nulls, rows)))
    except UnicodeEncodeError as error:
        around = error.object[max(0, error.start - 40) : error.end + 40]
        raise UserError(f"{path}: {around!r} is no UTF-8; rename that file") from None


def is_parquet(path: Path) -> bool:
    """Whether the manifest is parquet, not JSON lines. Raises ValueError for another suffix."""
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{path}: a manifest ends in .jsonl or .parquet; rename it")
    return path.suffix == ".parquet"


def jsonl_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, row) of every line that is not empty."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(
                        f"{path}:{number}: not JSON ({error.msg}); write one record per line"
                    ) from error
                yield f"{path}:{number}", row


def parquet_rows(path: Path, audio_folder: Path | None) -> Iterator[tuple[str, Any]]:
    """("PATH:NUMBER", row) of each; recordings inside are written into `audio_folder`."""
    from data_tools.manifest.parquet import read_rows

    folder = audio_folder or path.with_name(f"{path.stem}.audio")
    for number, row in enumerate(read_rows(path, folder), start=1):
        yield f"{path}:{number}", row


def row_from_record(record: Record) -> dict[str, Any]:
    """All fields as JSON and parquet hold them, None among them."""
    turns = [{name: getattr(turn, name) for name in TURN_FIELDS} for turn in record.turns]
    return {name: getattr(record, name) for name in RECORD_FIELDS} | {"turns": turns}


def without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """The row and its turns without the fields that are null."""
    return present(row) | {"turns": [present(turn) for turn in row["turns"]]}


def present(row: dict[str, Any]) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in row.items() if value is not None}


def record_from_row(row: Any) -> Record:
    """Checks one row. Raises ValueError with rule and remedy; the caller adds the place."""
    row = checked_fields(row, RECORD_FIELDS, required=("id", "turns"), what="record")
    check_text(row, "id", "language", "split")
    if not row["id"]:
        raise ValueError("id '': must not be empty; give every record a name of its own")
    provenance = row.get("provenance", {})
    if not isinstance(provenance, dict) or not all(
        isinstance(value, str) for value in provenance.values()
    ):
        raise ValueError(f"provenance {provenance!r}: must map names to texts; write it so")
    if not isinstance(row["turns"], list) or not row["turns"]:
        raise ValueError(f"turns {row['turns']!r}: must be a list of at least one turn; add it")
    turns = tuple(turn_from_row(turn) for turn in row["turns"])
    for index, turn in enumerate(turns):
        if turn.role != ROLES[index % 2]:
            raise ValueError(
                f"turn {index + 1} has role {turn.role!r}: roles alternate and start with 'user'; "
                "reorder or join the turns"
            )
    return Record(**(row | {"turns": turns, "provenance": dict(provenance)}))


def turn_from_row(row: Any) -> RecordTurn:
    """A turn from its JSON object, repeats in `units` merged. Raises ValueError."""
    row = checked_fields(row, TURN_FIELDS, required=("role", "text"), what="turn")
    check_text(row, "role", "text", "speech", "voice")
    if row["role"] not in ROLES:
        raise ValueError(f"role {row['role']!r}: must be 'user' or 'assistant'; rename it")
    if "units" not in row:
        return RecordTurn(**row)
    units = row["units"]
    if not isinstance(units, list) or not all(type(unit) is int and unit >= 0 for unit in units):
        raise ValueError(
            f"units {units!r}: must be a list of integers from 0 up; extract them anew"
        )
    from omni.units import merge_repeats

    return RecordTurn(**(row | {"units": tuple(merge_repeats(units).tolist())}))


def checked_fields(
    row: Any, known: Sequence[str], *, required: Sequence[str], what: str
) -> dict[str, Any]:
    """The fields that are not null, if they are the ones that a record or turn may have."""
    if not isinstance(row, dict):
        raise ValueError(
            f"{what} {row!r}: must be an object with {', '.join(required)}; write it so"
        )
    row = present(row)
    for name in required:
        if name not in row:
            raise ValueError(f"{what} without {name!r}: needs {', '.join(required)}; add it")
    for name in row:
        if name not in known:
            raise ValueError(
                f"{what} field {name!r}: known are {', '.join(known)}; remove or rename"
            )
    return row


def check_text(row: dict[str, Any], *names: str) -> None:
    """Raises ValueError if one of these fields is there and no text."""
    for name in names:
        if name in row and not isinstance(row[name], str):
            raise ValueError(f"{name} {row[name]!r}: must be text; put it in quotation marks")
