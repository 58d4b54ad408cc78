"""Commands are alike: their versions, earlier spellings of options, the names of the package."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import omni.cli
from tests.commands import APPS


@pytest.mark.parametrize("name", APPS)
def test_every_command_says_its_version(name: str) -> None:
    result = CliRunner().invoke(APPS[name], ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"{name} {omni.__version__}\n")


@pytest.mark.parametrize("old", ["--out", "-o", "--output"])
def test_earlier_spellings_are_understood_and_not_shown(
    old: str, kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kitchen)
    ask = ["ask", "--text", "hello", "--checkpoint", "checkpoint", old, str(tmp_path / "a.wav")]
    assert CliRunner().invoke(omni.cli.app, ask).exit_code == 0
    assert (tmp_path / "a.wav").is_file()
    assert "--out " not in CliRunner().invoke(omni.cli.app, ["ask", "--help"]).stdout


def test_the_public_names_of_omni_are_shown() -> None:
    assert {"load", "SpeechSession", "__version__"} <= set(dir(omni)) == set(omni.__all__)
