"""A vocoder and a unit decoder know the units that they were trained on, and no others."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from omni.files import UserError
from omni.units import UnitExtractor, UnitsConfig
from tests.tiny import tiny_model, tiny_records
from train.cli import app
from train.voice import check_voice

CONFIG = UnitsConfig(kind="speech_encoder", name="speech_encoder", layer=1)


def extractor(seed: int) -> UnitExtractor:
    torch.manual_seed(seed)
    return UnitExtractor(CONFIG, torch.randn(5, 32), tiny_model(vocoder=None).speech_encoder)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint's folder, as far as its voice goes: packed at half precision."""
    own = extractor(1)
    own.centroids = own.centroids.half()
    own.save(tmp_path / "checkpoint" / "units")
    (tmp_path / "checkpoint" / "vocoder").mkdir()
    return tmp_path / "checkpoint"


def test_its_own_units_are_learnt_by_a_voice_however_they_are_stored(
    checkpoint: Path, tmp_path: Path
) -> None:
    extractor(1).save(tmp_path / "units")
    check_voice(checkpoint, units=tmp_path / "units", vocoder=None, warm_start=True)


def test_as_many_units_of_another_extractor_need_another_vocoder_and_a_new_decoder(
    checkpoint: Path, tmp_path: Path
) -> None:
    extractor(2).save(tmp_path / "units")
    others = {"checkpoint": checkpoint, "units": tmp_path / "units"}
    with pytest.raises(UserError, match=r"checkpoint's vocoder knows; .* --voice"):
        check_voice(**others, vocoder=None, warm_start=False)
    with pytest.raises(UserError, match="checkpoint's unit decoder knows"):
        check_voice(**others, vocoder=tmp_path / "new", warm_start=True)
    check_voice(**others, vocoder=tmp_path / "new", warm_start=False)


def test_a_checkpoint_without_a_voice_learns_any_units(tmp_path: Path) -> None:
    extractor(2).save(tmp_path / "units")
    (tmp_path / "stage1").mkdir()
    check_voice(tmp_path / "stage1", units=tmp_path / "units", vocoder=None, warm_start=False)


def test_stage_2_refuses_them_before_anything_is_trained(tmp_path: Path) -> None:
    manifest = tiny_records(tmp_path / "data")
    extractor(2).save(manifest.parent / "units")
    call = ["stage2", "mini", str(manifest), "--recipe", "mini", "--output", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, call)
    assert refused.exit_code == 2 and "checkpoint's vocoder knows" in refused.stderr
    assert not (tmp_path / "out").exists()
