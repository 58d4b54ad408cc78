"""Many arrays of different lengths in one memory-mapped file, written once, resumable.

Several processes fill a folder together: each writes a part of its own, and the first one appends
the parts to the whole. What killed processes left is appended by the next run, whatever its number
of processes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from omni.files.errors import UserError
from omni.files.lines import appending, read_lines, write_lines
from omni.files.share import ALONE, Share, held

HEADER = "made_of"  # key of the index's first line: what the arrays were made of and by
AT_ONCE = 256  # arrays that are appended before their lines are written


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
    share: Share = ALONE,
) -> RaggedStore:
    """Make what is not there yet, batch by batch, with a progress bar.

    made_of: everything that the arrays depend on; a folder made of something else is refused.
    make: keys of one batch -> [n, width] each. share: this process's share of the batches; every
    process gives the same ones. Raises UserError that names what differs.
    """
    made_of = json.loads(json.dumps(made_of | {"width": width}))  # as it reads back
    with _held(folder, made_of, batches) if share.first else nullcontext():
        if share.first:
            _append_parts(folder, made_of)
        share.wait()
        if mine := share.of(_missing(folder, made_of, batches)):
            own = folder if share.size == 1 else folder / f"part-{share.rank}"
            total = sum(map(len, mine))
            with (
                _appending(own, made_of) as append,
                tqdm(total=total, desc=label, unit="file", disable=not share.first) as bar,
            ):
                for keys in mine:
                    append(zip(keys, make(keys), strict=True))
                    bar.update(len(keys))
        share.wait()
        if share.first:
            _append_parts(folder, made_of)
    share.wait()
    return RaggedStore(folder, width, _read(folder, made_of))


def made_with(folder: Path) -> dict[str, Any]:
    """What the arrays of a folder depend on, as its first `fill` said; {} before that."""
    lines = list(islice(read_lines(folder / "index.jsonl"), 1))
    return lines[0][HEADER] if lines else {}


@contextmanager
def _held(
    folder: Path, made_of: dict[str, Any], batches: Sequence[Sequence[str]]
) -> Generator[None]:
    """Hold the folder against another run, unless everything is there: any number may read it."""
    folder.mkdir(parents=True, exist_ok=True)
    to_do = _missing(folder, made_of, batches) or _parts(folder)
    with held(folder / "index.jsonl") if to_do else nullcontext():
        yield


def _missing(
    folder: Path, made_of: dict[str, Any], batches: Sequence[Sequence[str]]
) -> list[list[str]]:
    """What is not there of each batch, without empty ones."""
    places = _read(folder, made_of)
    todo = [[key for key in batch if key not in places] for batch in batches]
    return [keys for keys in todo if keys]


def _parts(folder: Path) -> list[Path]:
    """What processes have left in parts of their own."""
    return sorted(folder.glob("part-*"))


def _append_parts(folder: Path, made_of: dict[str, Any]) -> None:
    """Append each part, and remove it after that."""
    for part in _parts(folder):
        places = _read(part, made_of)
        store = RaggedStore(part, made_of["width"], places)
        known = _read(folder, made_of)  # a kill may have fallen into an earlier appending
        keys = [key for key in places if key not in known]
        with _appending(folder, made_of) as append:
            for start in range(0, len(keys), AT_ONCE):
                append((key, store[key]) for key in keys[start : start + AT_ONCE])
        (part / "index.jsonl").unlink(missing_ok=True)  # first: an index promises values
        shutil.rmtree(part)


@contextmanager
def _appending(
    folder: Path, made_of: dict[str, Any]
) -> Generator[Callable[[Iterable[tuple[str, Tensor]]], None]]:
    """Open a folder to append arrays, without what a killed run left half-written."""
    folder.mkdir(parents=True, exist_ok=True)
    values = folder / "values.bin"
    width = made_of["width"]
    places = _read(folder, made_of)
    rows = _rows(places)
    index = folder / "index.jsonl"
    if not index.is_file():
        write_lines(index, [{HEADER: made_of}])
    with values.open("r+b" if values.is_file() else "w+b") as data, appending(index) as note:
        data.truncate(2 * width * rows)  # values whose line was never written
        data.seek(0, os.SEEK_END)

        def append(arrays: Iterable[tuple[str, Tensor]]) -> None:
            nonlocal rows
            written = []
            for key, array in arrays:
                data.write(array.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
                written.append([key, rows, len(array)])
                rows += len(array)
            data.flush()
            note(written)

        yield append
        os.fsync(data.fileno())


def _read(folder: Path, made_of: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The places of all arrays. Raises UserError if they were made of something else, or lack."""
    places = _read_index(folder, made_of)
    values = folder / "values.bin"
    needed = 2 * made_of["width"] * _rows(places)
    if needed and (not values.is_file() or values.stat().st_size < needed):
        raise UserError(f"{values}: shorter than its index says; remove {folder} and run again")
    return places


def _rows(places: dict[str, tuple[int, int]]) -> int:
    return max((first + count for first, count in places.values()), default=0)


def _read_index(folder: Path, made_of: dict[str, Any]) -> dict[str, tuple[int, int]]:
    lines = list(read_lines(folder / "index.jsonl"))
    if not lines:
        return {}
    found = lines[0][HEADER]
    for name in sorted(found.keys() | made_of.keys()):
        if found.get(name) != made_of.get(name):
            raise UserError(
                f"{folder}: was made with {name}={found.get(name)!r}, this run wants "
                f"{made_of.get(name)!r}; remove the folder, or give this run another output"
            )
    return {key: (first, rows) for key, first, rows in lines[1:]}
