"""An adapter that was aligned with four tones, and what it was aligned on."""

from pathlib import Path

import pytest

from data_tools.manifest.record import Manifest
from tests.tiny import tiny_bases
from tests.tones import RECIPE, tones
from train.stages.align import train_align


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tones(tmp_path_factory.mktemp("data") / "spoken")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    encoder, llm = tiny_bases(tmp_path_factory.mktemp("bases"))
    return {"speech_encoder": encoder, "language_model": llm}


@pytest.fixture(scope="module")
def aligned(
    manifest: Manifest, bases: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float]]:
    output = tmp_path_factory.mktemp("align")
    return output, train_align(manifest, **bases, recipe=RECIPE, output=output)
