"""`omni demo`: the recordings that come with omni, answered by a checkpoint of one's own."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from omni.cli import app
from tests.tiny import tiny_model, tiny_processor


@pytest.mark.parametrize("part", ["vocoder", "unit decoder"])
def test_demo_says_what_there_is_no_voice_without_and_writes_no_sound(
    tmp_path: Path, part: str
) -> None:
    mute, answers = tmp_path / "mute", tmp_path / "answers"
    model = tiny_model()
    if part == "vocoder":
        model.vocoder = None
    else:
        model.unit_decoder, model.config.unit_decoder = None, None
    model.save_pretrained(mute, self_contained=True, processor=tiny_processor())
    command = ["demo", "--checkpoint", str(mute), "-o", str(answers), "--threads", "1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert f"the checkpoint has no {part}" in result.stdout
    assert "s of speech" not in result.stdout and list(answers.iterdir()) == []
