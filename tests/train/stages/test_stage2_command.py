"""What `omni-train stage2` is asked, and what its recipe then says."""

from pathlib import Path

from typer.testing import CliRunner

from tests.tiny import tiny_model, tiny_processor, tiny_records
from train.cli import app


def test_it_learns_from_as_many_answers_as_it_is_told(tmp_path: Path) -> None:
    tiny_model(vocoder=None).save_pretrained(tmp_path / "checkpoint", processor=tiny_processor())
    manifest = str(tiny_records(tmp_path / "data"))
    call = ["stage2", str(tmp_path / "checkpoint"), manifest, "--recipe", "nano", "--dry-run"]
    for options, count in (([], 8), (["--answers", "3"], 3), (["--answers", "0"], 8)):
        out = ["--output", str(tmp_path / "out")]
        told = CliRunner().invoke(app, [*call, *options, *out])
        assert f"examples: {count} train" in told.output, told.output
