"""What lies in the folder of such a model: a folder for each part, a marker at its end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omni.files import read_json

MARKER = "complete.json"  # written last in each part's folder; holds its validation's numbers


def complete(folder: Path, part: str) -> bool:
    """Whether a part has been made to its end."""
    return (folder / part / MARKER).is_file()


def results(folder: Path, parts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Part -> what it came to, of those that are complete."""
    return {part: read_json(folder / part / MARKER) for part in parts if complete(folder, part)}
