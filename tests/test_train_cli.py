"""The `omni-train` command as a newcomer meets it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import tiny_bases, tiny_records
from typer.testing import CliRunner

from data_tools.manifest import read_manifest
from omni.bases import load_speech_encoder
from omni.pretrained import load
from omni.units import UnitsConfig, merge_repeats
from train.cli import app
from train.kmeans import read_frame_units
from train.voice import clips, make_units

COMMANDS = ("lm", "encoder", "units", "vocoder", "stage1", "stage2", "evaluate", "nano")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_help_names_every_command_and_does_not_wait_for_torch() -> None:
    started = time.perf_counter()
    code = "import sys, train.cli as c\ntry: c.app(['--help'])\nexcept SystemExit: pass\n"
    shown = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    ).stdout  # fmt: skip
    assert all(command in shown for command in COMMANDS)
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0 and "--threads" in result.output


def test_an_unknown_recipe_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    manifest = str(tiny_records(tmp_path))
    result = run(
        "stage1", manifest, "--speech-encoder", "x", "--language-model", "y",
        "-o", str(tmp_path), "--recipe", "nanoo",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "recipe='nanoo': must be one of nano" in result.stderr


def test_a_missing_manifest_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    result = run("lm", str(tmp_path / "none.jsonl"), "-o", str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and "none.jsonl" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_nano_says_which_command_makes_what_it_lacks(tmp_path: Path) -> None:
    result = run("nano", str(tmp_path))
    assert result.exit_code == 2 and "omni-data nano" in result.stderr
    assert "must be one of lm, encoder" in run("nano", str(tmp_path), "--part", "voice").stderr


def test_the_nanos_parts_come_after_what_they_need() -> None:
    from train.nano import NEEDS, PARTS

    made = {"data"}
    for part in PARTS:
        assert set(NEEDS[part]) <= made, part
        made.add(part)


def test_units_are_written_into_a_manifest_that_finds_its_recordings(tmp_path: Path) -> None:
    encoder, _ = tiny_bases(tmp_path)
    manifest = read_manifest(tiny_records(tmp_path / "data"))
    config = UnitsConfig(kind="speech_encoder", name="speech_encoder", layer=1)
    written = make_units(
        {"records.jsonl": manifest}, load_speech_encoder(encoder), config,
        clusters=5, output=tmp_path / "units",
    )  # fmt: skip
    labelled = read_manifest(written[0])
    frame_units = read_frame_units(tmp_path / "units" / "frame_units.jsonl")
    for old, new in zip(manifest.records, labelled.records, strict=True):
        for before, after in zip(old.turns, new.turns, strict=True):
            assert labelled.audio_path(after).samefile(manifest.audio_path(before))
            assert before.text == after.text
            if after.role == "assistant":
                expected = merge_repeats(frame_units[str(after.speech)])
                assert list(after.units or ()) == expected.tolist()
    training, validation = clips(tmp_path / "units")
    assert len(training) + len(validation) == len(frame_units)
    assert all(clip.path.is_file() for clip in training)


def test_units_voice_and_stage_2_of_other_sizes_join_in_one_checkpoint(tmp_path: Path) -> None:
    encoder, language_model = tiny_bases(tmp_path)
    manifest = tiny_records(tmp_path / "data")

    def train(*arguments: str | Path) -> None:
        result = run(*(str(argument) for argument in arguments))
        assert result.exit_code == 0, result.output

    few = ["--max-steps", "1", "--threads", "1"]
    train("units", manifest, "--speech-encoder", encoder, "--output", tmp_path / "units",
        "--clusters", "5", "--layer", "1")  # fmt: skip
    train("vocoder", tmp_path / "units", "--output", tmp_path / "voice", *few)
    train("stage1", manifest, "--speech-encoder", encoder, "--language-model", language_model,
        "--output", tmp_path / "stage1", *few)  # fmt: skip
    train("stage2", tmp_path / "stage1" / "checkpoint", tmp_path / "units" / "records.jsonl",
        "--output", tmp_path / "stage2", "--voice", tmp_path / "voice" / "vocoder",
        *few)  # fmt: skip

    model, _ = load(tmp_path / "stage2" / "checkpoint")
    assert model.vocoder is not None and model.vocoder.num_units == 5
    assert model.unit_decoder is not None and model.unit_decoder.blank == 5
    assert (tmp_path / "stage2" / "checkpoint" / "units" / "centroids.safetensors").is_file()
