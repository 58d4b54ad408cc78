"""Checkpoints to be read and saved again, as each stage leaves them."""

from pathlib import Path

import pytest

from omni.loading import load
from tests.tiny import tiny_bases, tiny_model, tiny_processor


@pytest.fixture(scope="module")
def stage1(tmp_path_factory) -> Path:
    """What stage 1 leaves: adapter and tokenizer; the encoder and the LLM are bases by name."""
    folder = tmp_path_factory.mktemp("stage1")
    encoder, llm = tiny_bases(folder)
    model = tiny_model(vocoder=None)
    model.unit_decoder, model.config.unit_decoder = None, None
    model.config.bases = {"speech_encoder": encoder, "language_model": llm}
    stored = {k: v.half() for k, v in model.speech_encoder.state_dict().items()}
    model.speech_encoder.load_state_dict(stored)  # as tiny_bases has rounded it
    model.save_pretrained(folder / "checkpoint", processor=tiny_processor(model.config))
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def stage2(stage1: Path) -> Path:
    """What stage 2 leaves: the same with a unit decoder, here also with a vocoder."""
    model, processor = load(stage1)
    spoken = tiny_model()
    model.unit_decoder, model.config.unit_decoder = spoken.unit_decoder, spoken.config.unit_decoder
    model.vocoder = spoken.vocoder
    folder = stage1.with_name("stage2")
    model.save_pretrained(folder, processor=processor)
    return folder


@pytest.fixture(scope="module")
def carried(tmp_path_factory) -> Path:
    """tests/tiny.py's model with all its parts inside."""
    folder = tmp_path_factory.mktemp("carried") / "checkpoint"
    tiny_model().save_pretrained(folder, processor=tiny_processor())
    return folder
