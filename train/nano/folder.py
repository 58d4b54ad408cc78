"""What lies in the nano's folder: its data, and a folder for each part, a marker at its end."""

from __future__ import annotations

from pathlib import Path

from omni.files import UserError

MARKER = "complete.json"  # written last in each part's folder; holds its validation's numbers
DATA = ("text.jsonl", "records.jsonl", "reading.jsonl")


def complete(folder: Path, part: str) -> bool:
    """Whether a part has been made to its end."""
    return (folder / part / MARKER).is_file()


def is_there(folder: Path, needed: str) -> bool:
    """Whether the data, or a part, can be used."""
    if needed == "data":
        return (folder / "data" / "records.jsonl").is_file()
    return complete(folder, needed)


def missing(folder: Path, needed: str, part: str) -> UserError:
    """What to say where it is not there; part: which one needs it."""
    command = (
        f"omni-data nano --output {folder}/data"
        if needed == "data"
        else f"omni-train nano {folder} --part {needed}"
    )
    return UserError(f"{folder}/{needed}: not complete, and {part} needs it; run {command}")
