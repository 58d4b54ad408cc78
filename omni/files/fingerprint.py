"""What values and files hold, as a few hex digits: equal content is known again anywhere."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from omni.files.errors import UserError

PIECE = 16 * 1024  # bytes
PIECES = 4  # of a large file; smaller ones are read whole
READERS = 16  # files in flight: storage over a network answers slowly, and many at a time


def digest_of(*values: Any, length: int = 16) -> str:
    """Hex digits that change with any of these JSON values."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_digest(path: Path) -> str:
    """16 hex digits of a file's size and content, whatever its name and date.

    Up to 64 KiB all of it; of larger files four pieces of 16 KiB, spread from the first byte to
    the last: 200,000 recordings are known again within minutes, and a recording that was made
    anew differs in each of them. Raises UserError if there is no such file.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; restore it, or remove its record from the manifest"
        ) from None
    return _file_digest(str(path), status.st_size, status.st_mtime_ns)


def files_digest(paths: Iterable[Path]) -> str:
    """One digest of many files, in this order."""
    with ThreadPoolExecutor(READERS) as readers:
        return digest_of(*readers.map(file_digest, paths))


@lru_cache(maxsize=1_000_000)
def _file_digest(path: str, size: int, changed: int) -> str:
    """changed: the date is only a reason to read again within this process, and not digested."""
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        if size <= PIECE * PIECES:
            digest.update(file.read())
        else:
            for piece in range(PIECES):
                file.seek(piece * (size - PIECE) // (PIECES - 1), os.SEEK_SET)
                digest.update(file.read(PIECE))
    return digest.hexdigest()[:16]
