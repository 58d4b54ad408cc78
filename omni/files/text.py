"""Text files that people bring along."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from omni.files.errors import UserError


@contextmanager
def open_text(path: str | Path, *, newline: str | None = None) -> Generator[TextIO]:
    """UTF-8, with or without the mark that Windows puts first; newline: as of `open`.

    Raises UserError by the file's name if it is another encoding.
    """
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError:
        raise UserError(f"{path}: isn't in UTF-8; convert it") from None
