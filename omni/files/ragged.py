"""Many arrays of different lengths in one memory-mapped file, written once, resumable."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from omni.files.errors import UserError

HEADER = "made_of"  # key of the index's first line: what the arrays were made of and by


class RaggedStore:
    """Arrays [n, width] float16 by key, read without loading the file.

    The folder holds `values.bin`, all rows one after another, and `index.jsonl`: one header line,
    then `[key, first row, rows]` per array. A line is written after its values are, so a killed
    run leaves at worst values without a line, which the next run overwrites.
    """

    def __init__(self, folder: Path, width: int, places: dict[str, tuple[int, int]]) -> None:
        self._path = folder / "values.bin"
        self._width = width
        self._places = places
        self._values: np.ndarray | None = None

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def length(self, key: str) -> int:
        """Rows of one array."""
        return self._places[key][1]

    def __getitem__(self, key: str) -> Tensor:
        """[n, width] float16, a copy."""
        if self._values is None:  # opened on first use, so that worker processes open their own
            self._values = np.memmap(self._path, np.float16, "r").reshape(-1, self._width)
        first, rows = self._places[key]
        return torch.from_numpy(self._values[first : first + rows].copy())


def fill(
    folder: Path,
    *,
    made_of: dict[str, Any],
    batches: Sequence[Sequence[str]],
    make: Callable[[Sequence[str]], Sequence[Tensor]],
    width: int,
    label: str,
) -> RaggedStore:
    """Make what is not there yet, batch by batch, with a progress bar.

    made_of: everything that the arrays depend on; a folder made of something else is refused.
    make: keys of one batch -> [n, width] each. Raises UserError that names what differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index, values = folder / "index.jsonl", folder / "values.bin"
    made_of = json.loads(json.dumps(made_of | {"width": width}))  # as it reads back
    places = _read_index(index, made_of, folder)
    rows = max((first + count for first, count in places.values()), default=0)
    if values.is_file() and values.stat().st_size < 2 * width * rows:
        raise UserError(f"{values}: shorter than its index says; remove {folder} and run again")
    _rewrite_index(index, made_of, places)
    todo = [[key for key in batch if key not in places] for batch in batches]
    with (
        values.open("r+b" if values.is_file() else "w+b") as data,
        index.open("a") as lines,
        tqdm(total=sum(map(len, batches)), desc=label, unit="file") as bar,
    ):
        data.truncate(2 * width * rows)  # values whose line was never written
        data.seek(0, os.SEEK_END)
        bar.update(bar.total - sum(map(len, todo)))
        for keys in todo:
            if not keys:
                continue
            written = []
            for key, array in zip(keys, make(keys), strict=True):
                data.write(array.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
                places[key] = (rows, len(array))
                written.append(json.dumps([key, rows, len(array)]) + "\n")
                rows += len(array)
            data.flush()
            lines.writelines(written)
            lines.flush()
            bar.update(len(keys))
    return RaggedStore(folder, width, places)


def _read_index(index: Path, made_of: dict[str, Any], folder: Path) -> dict[str, tuple[int, int]]:
    if not index.is_file():
        return {}
    complete = index.read_text().split("\n")[:-1]  # a torn last line is left out
    if not complete:
        return {}
    found = json.loads(complete[0])[HEADER]
    for name in sorted(found.keys() | made_of.keys()):
        if found.get(name) != made_of.get(name):
            raise UserError(
                f"{folder}: was made with {name}={found.get(name)!r}, this run wants "
                f"{made_of.get(name)!r}; remove the folder, or give this run another output"
            )
    return {key: (first, rows) for key, first, rows in map(json.loads, complete[1:])}


def _rewrite_index(
    index: Path, made_of: dict[str, Any], places: dict[str, tuple[int, int]]
) -> None:
    """The same without a torn last line, so that the next one begins on its own."""
    aside = index.with_name(f".{index.name}.part")
    lines = [json.dumps({HEADER: made_of})]
    lines += [json.dumps([key, first, rows]) for key, (first, rows) in places.items()]
    aside.write_text("".join(line + "\n" for line in lines))
    aside.replace(index)
