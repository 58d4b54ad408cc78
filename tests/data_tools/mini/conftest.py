"""The small data set that several tests look at, and the questions that it was made of."""

import json
from pathlib import Path

import pytest

from data_tools.manifest.record import Manifest, read_manifest
from tests.mini_data import build

NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
ASKED = {f"what is the colour of number {word} in the book": [f"green {word}"] for word in NUMBERS}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    rows = [{"question": question, "answer": gold} for question, gold in ASKED.items()]
    (folder / "nq-open-dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "data"
    build(folder, texts)
    return folder


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder / "records.jsonl")
