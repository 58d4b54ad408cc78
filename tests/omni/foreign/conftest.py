"""What several tests of foreign formats convert."""

from pathlib import Path

import pytest

from omni.foreign.llama_omni import read_llama_omni
from omni.foreign.vocoder import read_vocoder
from tests.published import CHECKPOINT, ENCODER, VOCODER


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    """The published LLaMA-Omni and its vocoder, in our format."""
    folder = tmp_path_factory.mktemp("converted") / "checkpoint"
    voice = read_vocoder(VOCODER)
    read_llama_omni(CHECKPOINT, whisper=ENCODER, vocoder=voice).write(folder)
    return folder
