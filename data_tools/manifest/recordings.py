"""A folder of recordings and what is said in them, joined by name."""

from collections import defaultdict
from pathlib import Path
from typing import Literal

from data_tools.manifest.record import Record, RecordTurn
from omni.files import UserError, open_text

SOUNDS = (".wav", ".flac", ".mp3", ".ogg")
PARTNERS = {".wav": ".txt", ".txt": ".wav", ".answer.txt": ".txt", ".answer.wav": ".answer.txt"}


def read_folder(folder: str | Path) -> list[Record]:
    """Records from NAME.wav + NAME.txt (the question), joined by NAME, which becomes the id.

    NAME.answer.txt and NAME.answer.wav may add the answer; for .wav any of SOUNDS will do. Audio
    paths come out absolute.
    Raises UserError that names every file without its partner.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; give one that holds NAME.wav and NAME.txt")
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in sorted(folder.iterdir()):
        name, part = part_of(file)
        if not part:
            continue
        if part in found[name]:
            both = f"{found[name][part].name} and {file.name}"
            raise UserError(f"{folder}: {both} are one recording or text twice; remove one")
        found[name][part] = file.resolve()
    if not found:
        raise UserError(
            f"{folder}: holds no NAME.wav with NAME.txt; add some, or give the file that lists "
            "them, or hub:FOLDER for what `datasets` reads"
        )
    orphans = [
        f"{parts[part].name} needs {name}{partner}"
        for name, parts in sorted(found.items())
        for part, partner in PARTNERS.items()
        if part in parts and partner not in parts
    ]
    if orphans:
        raise UserError(f"{folder}: {'; '.join(orphans)}: add what is missing, or remove the file")
    return [folder_record(name, parts) for name, parts in sorted(found.items())]


def part_of(file: Path) -> tuple[str, str]:
    """(NAME, which of PARTNERS the file is of it, where .wav is any sound); "" for other files."""
    suffix = file.suffix.lower()
    part = ".wav" if suffix in SOUNDS else ".txt" if suffix == ".txt" else ""
    if part and file.stem.endswith(".answer"):
        return file.stem.removesuffix(".answer"), f".answer{part}"
    return file.stem, part


def folder_record(name: str, parts: dict[str, Path]) -> Record:
    """What lies there of one NAME as a record."""

    def turn(role: Literal["user", "assistant"], said: str) -> RecordTurn:
        with open_text(parts[f"{said}.txt"]) as file:
            text = " ".join(file.read().split())
        speech = parts.get(f"{said}.wav")
        return RecordTurn(role=role, text=text, speech=None if speech is None else str(speech))

    turns = [turn("user", "")]
    if ".answer.txt" in parts:
        turns.append(turn("assistant", ".answer"))
    return Record(id=name, turns=tuple(turns))
