"""Results by key in one JSON-lines file: what was measured before a stop is not measured again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from omni.files import UserError, appending, read_lines, write_lines
from train.data import Example


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

    def fill(
        self,
        label: str,
        items: Sequence[Example],
        make: Callable[[Sequence[Example]], list[dict[str, Any]]],
        *,
        batch_size: int = 1,
        key: Callable[[Example], str] = lambda item: item.id,
    ) -> None:
        """Makes and keeps the results "LABEL KEY" that are missing, batch by batch."""
        missing = set(self.missing([f"{label} {key(item)}" for item in items]))
        todo = [item for item in items if f"{label} {key(item)}" in missing]
        with tqdm(total=len(items), initial=len(items) - len(todo), desc=label) as bar:
            for start in range(0, len(todo), batch_size):
                batch = todo[start : start + batch_size]
                made = make(batch)
                self.add(
                    {f"{label} {key(item)}": row for item, row in zip(batch, made, strict=True)}
                )
                bar.update(len(batch))
