"""Files of JSON lines that a kill may tear: whole lines are read, and the next one begins anew.

A value is an object or an array, so half of a line is never a value.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omni.files.writing import replace_file

Append = Callable[[Iterable[Any]], None]


def read_lines(path: str | Path) -> Iterator[Any]:
    """The value of every whole line; none of a file that isn't there. Torn lines are left out."""
    if not Path(path).is_file():
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:  # torn: by the last kill, or by an earlier one, and lines follow
                continue


def write_lines(path: str | Path, values: Iterable[Any]) -> None:
    """Aside, safely on disk, then renamed."""
    with replace_file(path) as aside, aside.open("wb") as file:
        file.writelines(map(line_of, values))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def appending(path: str | Path) -> Generator[Append]:
    """A function that appends values as whole lines, behind what is there; safely on disk at the
    end of the block."""
    with open(path, "a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")

        def append(values: Iterable[Any]) -> None:
            file.write(b"".join(map(line_of, values)))
            file.flush()

        yield append
        os.fsync(file.fileno())


def line_of(value: Any) -> bytes:
    """UTF-8, with its end."""
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
