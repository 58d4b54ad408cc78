"""`omni-data`: data sets are made, imported and converted, and bad input is one line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_tools.cli import app
from data_tools.manifest.record import read_manifest
from data_tools.nano.asks import KNOWN
from tests.nano_data import ask


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and everything printed, as a shell shows it."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_command_makes_the_set_and_tells_what_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_tools.nano.data.nano_asks", lambda seed: {KNOWN: [ask(0, "train")]})
    code, output = run("nano", "-o", tmp_path, "--questions", 2, "--workers", 1)
    assert code == 0
    assert "2 records" in output and "4 clips, 4 of them new" in output
    assert len(read_manifest(tmp_path / "records.jsonl").records) == 2


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    for arguments in (
        ("nano", "-o", tmp_path / "data", "--questions", 0),
        ("import", tmp_path / "missing", "-o", tmp_path / "out.jsonl"),
        ("convert", tmp_path / "missing.jsonl", "-o", tmp_path / "out.parquet"),
        ("convert", tmp_path / "missing.csv", "-o", tmp_path / "out.parquet"),
    ):
        code, output = run(*arguments)
        assert code == 2
        assert output.startswith("error: ") and output.count("\n") == 1


def test_omni_debug_shows_where_an_error_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNI_DEBUG", "1")
    with pytest.raises(ValueError, match="no such file or folder"):
        arguments = ["import", str(tmp_path / "missing"), "-o", str(tmp_path / "out.jsonl")]
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_folder_is_imported_and_converted_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "a.txt").write_text("Wie geht es?")
    first, parquet, again = (tmp_path / name for name in ("r.jsonl", "r.parquet", "s.jsonl"))
    assert run("import", tmp_path, "-o", first, "--language", "de", "--split", "test")[0] == 0
    assert run("convert", first, "-o", parquet)[0] == 0
    assert run("convert", parquet, "-o", again)[0] == 0
    assert again.read_bytes() == first.read_bytes()
    record = read_manifest(again).records[0]
    assert (record.language, record.split, record.turns[0].text) == ("de", "test", "Wie geht es?")


def test_a_manifest_is_not_converted_away_from_its_audio(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").touch()
    (tmp_path / "elsewhere").mkdir()
    code, output = run("convert", tmp_path / "r.jsonl", "-o", tmp_path / "elsewhere" / "r.parquet")
    assert code == 2 and "write it into" in output
