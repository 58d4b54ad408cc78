"""The small data set that several tests look at."""

from pathlib import Path

import pytest

from data_tools.manifest.record import Manifest, read_manifest
from tests.nano_data import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano") / "data"
    build(folder)
    return folder


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder / "records.jsonl")
