"""Foreign data sets -> records: Alpaca, UltraChat, ShareGPT, chats, LLaMA-Omni's own, the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_tools.manifest import Record, read_folder
from data_tools.sources.formats import FORMATS, Place, format_of
from data_tools.sources.repeating import to_repeat
from data_tools.sources.rows import SAVED, file_rows, hub_rows
from data_tools.sources.splits import SplitStep, hold_out
from omni.files import UserError

HUB = "hub:"
LISTS = tuple(f"metadata{suffix}" for suffix in (".csv", ".jsonl", ".parquet"))  # of audio folders


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """format: one of FORMATS, or "auto" by the first row. language, split, licence: said of all
    records; those of our own manifests keep what they say themselves.

    validation: share of the questions that goes to the split of that name, at least one, equal
    questions together. limit: rows read. max_turns: questions kept of a dialogue, with answers.
    skip_bad: leaves out rows that break a rule instead of ending there. repeat: the first question
    is to be said back. hub_config, hub_split: of
    a hub data set. audio_folder: for audio that comes as bytes; needed only then.
    """

    format: str = "auto"
    language: str = "en"
    split: str = "train"
    licence: str | None = None
    validation: float = 0.0
    limit: int | None = None
    max_turns: int | None = None
    skip_bad: bool = False
    repeat: bool = False
    hub_config: str | None = None
    hub_split: str = "train"
    audio_folder: Path = Path("audio")

    def __post_init__(self) -> None:
        if self.format != "auto" and self.format not in FORMATS:
            raise UserError(f"format {self.format!r}: must be auto or one of {', '.join(FORMATS)}")
        for name in ("limit", "max_turns"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name}={value}: must be at least 1; leave it out for all")
        if not 0 <= self.validation < 1:
            raise UserError(f"validation={self.validation}: a share, at least 0 and below 1")

    def split_of(self, record: Record) -> str:
        """What a record says itself stays, for "train" is what it says if it says nothing."""
        return self.split if record.split == "train" else record.split


@dataclass(frozen=True, kw_only=True)
class Imported:
    """bad: "place: reason" of rows left out. repeated: rows equal to one before them."""

    records: list[Record] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    repeated: int = 0


def import_records(source: str, config: ImportConfig | None = None) -> Imported:
    """Reads a file (`rows.SUFFIXES`), a folder of recordings, or hub:OWNER/NAME.

    Raises ValueError that names place, rule and remedy for the first row that breaks a rule
    (unless `skip_bad`), for an id that two different rows have, and where nothing is left.
    """
    config = config or ImportConfig()
    found = Imported()
    seen: dict[str, tuple[str, Record]] = {}
    for place, item in read_any(source, config):
        if isinstance(item, ValueError):
            if not config.skip_bad:
                raise UserError(f"{place}: {item}") from item
            found.bad.append(f"{place}: {item}")
            continue
        item = described(item, source, config)
        if item.id not in seen:
            seen[item.id] = place, item
            found.records.append(item)
        elif seen[item.id][1] == item:
            found = replace(found, repeated=found.repeated + 1)
        else:
            raise UserError(
                f"{place}: id {item.id!r} is already that of {seen[item.id][0]}, with other "
                "contents; records are joined by id: rename one"
            )
    if not found.records:
        first = f"; left out first: {found.bad[0]}" if found.bad else ""
        raise UserError(f"{source}: no rows to import; check that it is the right one{first}")
    if config.validation:
        step = SplitStep(shares={"validation": config.validation}, rest=config.split)
        found = replace(found, records=hold_out(found.records, step))
    return found


def read_any(source: str, config: ImportConfig) -> Iterator[tuple[str, Record | ValueError]]:
    """(place, record or what is wrong with the row)."""
    if source.startswith(HUB):
        rows = hub_rows(
            source.removeprefix(HUB),
            config=config.hub_config,
            split=config.hub_split,
            limit=config.limit,
        )
        yield from read_rows(rows, Path(), config)
    elif Path(source).is_dir() and any((Path(source) / name).is_file() for name in SAVED):
        yield from read_any(HUB + source, config)
    elif Path(source).is_dir():
        listed = [path for name in LISTS if (path := Path(source) / name).is_file()]
        if listed:
            yield from read_rows(file_rows(listed[0]), Path(source), config)
            return
        for record in read_folder(source)[: config.limit]:
            yield f"{source}/{record.id}", record
    else:
        yield from read_rows(file_rows(Path(source)), Path(source).parent, config)


def read_rows(
    rows: Iterable[tuple[str, Any]], root: Path, config: ImportConfig
) -> Iterator[tuple[str, Record | ValueError]]:
    """(place, record) of each row, or the error that says why it makes none.

    The format that the first row shows is taken for all.
    """
    place_of_audio = Place(root=root, audio_folder=config.audio_folder.resolve())
    kind = config.format
    for number, (place, row) in enumerate(rows):
        if number == config.limit:
            return
        try:
            if kind == "auto":
                kind = format_of(row)
            if not isinstance(row, dict):
                raise ValueError(f"row {row!r:.80}: must be an object with fields; mend it")
            missing = [name for name in FORMATS[kind].fields if row.get(name) is None]
            if missing:
                raise ValueError(
                    f"{kind} row without {', '.join(missing)}; add it, or name its format"
                )
            yield place, anchored(FORMATS[kind].read(row, place_of_audio), root)
        except ValueError as error:
            yield place, error


def anchored(record: Record, root: Path) -> Record:
    """With absolute audio paths, as the manifest may come to lie elsewhere."""
    turns = tuple(
        replace(turn, speech=str((root / turn.speech).resolve())) if turn.speech else turn
        for turn in record.turns
    )
    return replace(record, turns=turns)


def described(record: Record, source: str, config: ImportConfig) -> Record:
    """With the first turns alone, and where it comes from; what it says itself stays."""
    if config.max_turns is not None:
        record = replace(record, turns=record.turns[: 2 * config.max_turns])
    if config.repeat:
        record = to_repeat(record)
    name = source.removeprefix(HUB) if source.startswith(HUB) else Path(source).name
    origin = {"source": name} | ({"licence": config.licence} if config.licence else {})
    return replace(
        record,
        language=config.language if record.language == "en" else record.language,
        split=config.split_of(record),
        provenance=origin | record.provenance,
    )
