"""Results by key in one JSON-lines file: what was measured before a stop is not measured again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omni.files import UserError, write_text


class Journal:
    """A dictionary on disk that grows by whole lines."""

    def __init__(self, path: Path, made_of: dict[str, Any]) -> None:
        """made_of: everything that the results depend on.

        Raises UserError if the file holds results of something else.
        """
        self._path = path
        self._values: dict[str, Any] = {}
        lines: list[str] = []
        if path.is_file():
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # without a torn last line
        if lines and json.loads(lines[0]) != json.loads(json.dumps(made_of)):
            raise UserError(
                f"{path}: holds results of another checkpoint or manifest; remove it, or give "
                "another output"
            )
        for line in lines[1:]:
            key, value = json.loads(line)
            self._values[key] = value
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(line + "\n" for line in lines or [json.dumps(made_of)]))

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that have no result yet, in order."""
        return [key for key in keys if key not in self._values]

    def add(self, results: dict[str, Any]) -> None:
        """Keeps results by key, in memory and at the end of the file."""
        self._values |= results
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(
                json.dumps([key, value], ensure_ascii=False) + "\n"
                for key, value in results.items()
            )
