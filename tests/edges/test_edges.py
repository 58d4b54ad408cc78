"""Where a file or folder can't be, every command ends alike: one line on stderr, exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import data_tools.cli
from data_tools.manifest import read_manifest
from omni.audio import save_wav
from tests.commands import APPS
from tests.paths import ROOT

# ------------------------------------------------------------------------- where nothing can lie


@pytest.mark.parametrize(
    "command",
    [
        "omni ask --text hello --checkpoint checkpoint -o file/a.wav",
        "omni demo --checkpoint checkpoint -o file/answers",
        "omni demo --checkpoint checkpoint -o file",
        "omni vocode --vocoder checkpoint/vocoder --units 1 -o file/a.wav",
        "omni convert whisper nowhere.pt -o file/encoder",
        "omni convert hubert nowhere.pt -o file/units",
        "omni export checkpoint -o file/back",
        "omni-data import alpaca.json -o file/text.jsonl",
        "omni-data convert records.jsonl -o file/records.parquet --embed-audio",
        "omni-data rewrite records.jsonl -o file/asked.jsonl",
        "omni-data augment records.jsonl -o file/augmented.jsonl --workers 1",
        "omni-data check records.jsonl --sample 1 --tolerated 1 -o file/report",
        "omni-train lm records.jsonl --recipe nano -o file/lm --max-steps 1",
        "omni-serve tune --questions q.wav --checkpoint checkpoint -o file/tune",
    ],
)
def test_a_place_below_a_file_is_refused_in_one_line(
    command: str, kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(kitchen)
    monkeypatch.chdir(kitchen)
    name, *words = command.split()
    result = CliRunner().invoke(APPS[name], words)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: file") and result.stderr.splitlines()[-1] == line
    assert "Traceback" not in result.output
    assert contents(kitchen) == before


def contents(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("omni ask checkpoint", "checkpoint: is a folder"),
        ("omni ask q.wav -o checkpoint", "checkpoint: is a folder"),
        ("omni ask q.wav --checkpoint q.wav -o a.wav", "q.wav"),
        ("omni info q.wav", "q.wav"),
        ("omni units checkpoint --extractor checkpoint", "checkpoint"),
        ("omni-data import checkpoint/ -o a.jsonl", "checkpoint"),
        ("omni-data rewrite folder.jsonl -o a.jsonl", "folder.jsonl: is a directory; give a file"),
        ("omni-data build folder.jsonl", "folder.jsonl"),
        (
            "omni-train lm folder.jsonl --recipe nano -o lm",
            "folder.jsonl: is a directory; give a file",
        ),
        ("omni-train evaluate checkpoint folder.jsonl -o lm", "folder.jsonl"),
        ("omni-serve tune --questions checkpoint", "no recordings in this folder"),
        ("omni-serve bench load-robustness checkpoint", "checkpoint: is a folder"),
    ],
)
def test_a_folder_in_place_of_a_file_is_named_and_so_is_the_reverse(
    command: str, says: str, kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kitchen / "folder.jsonl").mkdir(exist_ok=True)
    before = contents(kitchen)
    monkeypatch.chdir(kitchen)
    name, *words = command.split()
    result = CliRunner().invoke(APPS[name], words)
    assert result.exit_code == 2, result.output
    assert says in result.stderr and result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert contents(kitchen) == before


# -------------------------------------------------------------------------------------- odd names


def test_names_with_spaces_and_bytes_that_are_no_text_are_read_written_and_said(
    kitchen: Path,
) -> None:
    question, answer = "a \udcffquestion\u00e9.wav", "an \udcffanswer.wav"
    (kitchen / question).write_bytes((kitchen / "q.wav").read_bytes())
    ask = ["ask", question, "--checkpoint", "checkpoint", "-o", answer]
    done = subprocess.run(
        [sys.executable, "-m", "omni.cli", *ask],
        cwd=kitchen, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert os.fsencode(answer) in done.stdout
    assert soundfile.info(os.fsencode(kitchen / answer)).samplerate == 16_000


def test_an_odd_name_in_an_error_is_still_one_line(kitchen: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "omni.cli", "ask", "no \udcff\nsuch.wav", "-o", "a.wav"],
        cwd=kitchen, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: no \xff such.wav: no such file")
    assert done.stderr.count(b"\n") == 1


def test_recordings_with_odd_names_are_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    save_wav(folder / "fine.wav", np.full(1600, 0.1))
    (folder / "fine.txt").write_text("Fine?")
    run = CliRunner().invoke
    inside = run(data_tools.cli.app, ["import", str(folder), "-o", str(folder / "a.jsonl")])
    assert inside.exit_code == 0, inside.output
    assert len(read_manifest(folder / "a.jsonl").records) == 1
    for suffix in (".wav", ".txt"):
        (folder / f"caf\udce9{suffix}").write_bytes((folder / f"fine{suffix}").read_bytes())
    for name in ("b.jsonl", "b.parquet"):
        result = run(data_tools.cli.app, ["import", str(folder), "-o", str(tmp_path / name)])
        assert result.exit_code == 2 and "is no UTF-8; rename" in result.stderr
    assert not list(tmp_path.glob("*b.*"))
