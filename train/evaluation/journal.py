"""Results by key in one JSON-lines file: what was measured before a stop is not measured again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omni.files import UserError, appending, read_lines, write_lines


class Journal:
    """A dictionary on disk that grows by whole lines."""

    def __init__(self, path: Path, made_of: dict[str, Any]) -> None:
        """made_of: everything that the results depend on.

        Raises UserError if the file holds results of something else.
        """
        self._path = path
        self._values: dict[str, Any] = {}
        lines = list(read_lines(path))
        if lines and lines[0] != json.loads(json.dumps(made_of)):  # as it reads back
            raise UserError(
                f"{path}: holds results of another checkpoint or manifest; remove it, or give "
                "another output"
            )
        self._values.update(lines[1:])
        if not lines:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_lines(path, [made_of])

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that have no result yet, in order."""
        return [key for key in keys if key not in self._values]

    def add(self, results: dict[str, Any]) -> None:
        """Keeps results by key, in memory and at the end of the file."""
        self._values |= results
        with appending(self._path) as append:
            append([key, value] for key, value in results.items())
