"""What commands are given at the edges."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_tools.manifest import Record, RecordTurn, write_manifest
from omni.audio import save_wav
from tests.tiny import tiny_model, tiny_processor


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a question, a manifest, and a file where nothing can lie in."""
    folder = tmp_path_factory.mktemp("edges")
    tiny_model().save_pretrained(
        folder / "checkpoint", self_contained=True, processor=tiny_processor()
    )
    save_wav(folder / "q.wav", np.random.default_rng(0).normal(0, 0.1, 16_000))
    (folder / "alpaca.json").write_text(json.dumps([{"instruction": "Why?", "output": "So."}] * 2))
    turns = (RecordTurn(role="user", text="hello there", speech="q.wav"),
             RecordTurn(role="assistant", text="hello", speech="q.wav"))  # fmt: skip
    records = [Record(id=str(n), turns=turns, split="train") for n in range(400)]
    write_manifest(folder / "records.jsonl", records)
    (folder / "file").write_text("")
    return folder
