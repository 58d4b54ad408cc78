"""Files that are never half-written, and places that are tried before the work begins."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omni.files.errors import UserError


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Where to write instead of `path`, which is replaced at the end of the block.

    If the block fails, `path` stays as it was. Of a link the file that it leads to is replaced. A
    device or a pipe can't be replaced, so it is written to.
    Raises OSError that names `path`, whichever file the system complained of.
    """
    target = _target(path)
    aside = target if _is_special(target) else target.with_name(f".{target.name}.part")
    try:
        if target.is_dir():  # else a large file would be written before the renaming fails
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        yield aside
        if aside != target:
            aside.replace(target)
    except BaseException as error:
        if aside != target:
            _remove(aside)
        if isinstance(error, OSError) and error.filename in (None, str(aside), os.fsencode(aside)):
            error.filename, error.filename2 = str(path), None
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write aside, then rename."""
    with replace_file(path) as aside:
        aside.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 aside, then rename."""
    write_bytes(path, text.encode())


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """The same content by another name, without its space where the disk allows."""
    try:
        os.link(Path(source).resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def check_file(path: str | Path) -> None:
    """Raise UserError or OSError now if no file can be written there, not after the work."""
    target = _target(path)
    if target.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    if _is_special(target):
        return
    if not target.parent.exists():
        raise UserError(
            f"{path}: its folder {target.parent} does not exist; make it or choose another"
        )
    _try_to_write(target.parent, path)


def check_folder(path: str | Path) -> None:
    """The same for a folder that is there, or will be made with those above it."""
    target = _target(path)
    existing = next(folder for folder in (target, *target.parents) if folder.exists())
    _try_to_write(existing, path)


def _target(path: str | Path) -> Path:
    return Path(os.path.realpath(path))


def _is_special(target: Path) -> bool:
    return target.exists() and not target.is_file() and not target.is_dir()


def _remove(aside: Path) -> None:
    try:
        aside.unlink(missing_ok=True)
    except OSError:  # a folder of that name, or below a file: nothing of ours is there
        return


def _try_to_write(folder: Path, path: str | Path) -> None:
    """By writing: root needs no permission, and on a read-only disk permissions say nothing."""
    if not folder.is_dir():
        raise UserError(f"{path}: {folder} is a file, not a folder; choose another place")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
