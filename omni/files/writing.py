"""Files and folders that are never half-written, and places that are tried before the work."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from omni.files.errors import UserError


@contextmanager
def replace_file(path: str | Path) -> Generator[Path]:
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


@contextmanager
def replace_folder(folder: str | Path) -> Generator[Path]:
    """Write a folder aside and rename it when complete: readers never see half of it.

    If writing fails, the folder stays as it was. Its files get the rights that a new file gets:
    safetensors writes for the owner's eyes alone, and who serves is often another user.
    """
    folder = Path(folder)
    aside = folder.with_name(f".{folder.name}.part")
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        old.rename(folder)  # a kill fell between the two renames below
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    rights = aside.stat().st_mode & 0o666
    for file in aside.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(file.stat().st_mode | rights)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write aside, then rename."""
    with replace_file(path) as aside:
        aside.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 aside, then rename."""
    write_bytes(path, text.encode())


def write_once(path: Path, write: Callable[[], None]) -> None:
    """Calls `write`, which makes the file, unless it is there; its folder is made.

    Any number of processes may want it at once, also on other machines that share the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while not path.exists():
        with lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _names(lock, file.fileno()):
                continue  # whoever held the lock has removed the file
            try:
                if not path.exists():
                    write()
            finally:
                lock.unlink(missing_ok=True)


def _names(path: Path, handle: int) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


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
