"""A vocoder that goes on from another, on units of an extractor that is there."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from data_tools.manifest import read_manifest
from omni.files import UserError, read_tensors, write_tensors
from omni.vocoder import NsfConfig, NsfVocoder, load_vocoder, save_vocoder
from tests.tiny import tiny_bases, tiny_records
from train.cli import app
from train.voice import load_beginning
from train.voice.kmeans import read_frame_units

SMALL = NsfConfig(
    num_units=5, width=16, prosody_width=12, mid_width=8, fine_width=8, duration_width=8
)


def centroids(units: Path) -> torch.Tensor:
    return read_tensors(units / "centroids.safetensors")["centroids"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    return tiny_bases(tmp_path)[0]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tiny_records(tmp_path / "data")


@pytest.fixture
def fitted(encoder: str, manifest: Path, tmp_path: Path) -> Path:
    """What `omni-train units` leaves."""
    done = run("units", manifest, "--speech-encoder", encoder, "-o", tmp_path / "fitted",
               "--clusters", "5", "--layer", "1")  # fmt: skip
    assert done.exit_code == 0, done.output
    return tmp_path / "fitted"


def test_answers_are_labelled_by_an_extractor_that_is_there(
    fitted: Path, encoder: str, manifest: Path, tmp_path: Path
) -> None:
    own = ["units", manifest, "--extractor", fitted / "units", "--speech-encoder", encoder]
    done = run(*own, "--output", tmp_path / "again")
    assert done.exit_code == 0, done.output
    first, again = (read_frame_units(d / "frame_units.jsonl") for d in (fitted, tmp_path / "again"))
    assert {key: units.tolist() for key, units in again.items()} == {
        key: units.tolist() for key, units in first.items()
    }
    one, other = (centroids(folder / "units") for folder in (fitted, tmp_path / "again"))
    assert torch.equal(one, other)
    assert read_manifest(tmp_path / "again" / "records.jsonl").records[0].turns[1].units


def test_an_extractor_that_is_there_leaves_nothing_to_choose(
    fitted: Path, encoder: str, manifest: Path, tmp_path: Path
) -> None:
    own = ["units", manifest, "--speech-encoder", encoder, "--output", tmp_path / "again"]
    for name in ("--layer", "--seed"):
        refused = run(*own, "--extractor", fitted / "units", name, "1")
        assert refused.exit_code == 2 and f"{name}: --extractor has that fixed" in refused.stderr
    told = run(*own, "--extractor", fitted / "units", "--dry-run")
    assert told.exit_code == 0 and "the units of" in told.output
    neither = run("units", manifest, "--output", tmp_path / "again", "--layer", "1")
    assert neither.exit_code == 2 and "give --speech-encoder" in neither.stderr
    assert not (tmp_path / "again").exists()


def test_a_vocoder_goes_on_with_weights_and_sizes_of_the_one_before(
    fitted: Path, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    before = NsfVocoder(SMALL)
    save_vocoder(before, tmp_path / "before")
    call = [
        "vocoder",
        fitted,
        "--recipe",
        "nsf",
        "--vocoder",
        tmp_path / "before",
        "--threads",
        "1",
    ]
    still = run(*call, "--learning-rate", "0", "--max-steps", "1", "-o", tmp_path / "still")
    assert still.exit_code == 0, still.output
    moved = run(*call, "--discriminators", "128", "--batch-size", "2", "--max-steps", "3",
                "-o", tmp_path / "moved")  # fmt: skip
    assert moved.exit_code == 0, moved.output
    made = load_vocoder(tmp_path / "still" / "vocoder")
    assert made.config == SMALL
    for name, value in load_vocoder(tmp_path / "before").state_dict().items():
        assert torch.equal(value, made.state_dict()[name]), name
    after = load_vocoder(tmp_path / "moved" / "vocoder")
    assert after.config == SMALL
    assert not torch.equal(after.duration_embedding.weight, made.duration_embedding.weight)
    recipe = json.loads((tmp_path / "moved" / "run.json").read_text())["made_of"]["recipe"]
    assert recipe["discriminators"]["channels"] == 128


def test_one_of_other_units_is_refused_before_anything_is_written(
    fitted: Path, tmp_path: Path
) -> None:
    save_vocoder(NsfVocoder(SMALL), tmp_path / "checkpoint" / "vocoder")
    assert load_beginning(str(tmp_path / "checkpoint"), fitted / "units").num_units == 5
    others = tmp_path / "checkpoint" / "units"
    (tmp_path / "other").mkdir()
    others.mkdir()
    write_tensors(others / "centroids.safetensors", {"centroids": torch.randn(5, 32)})
    with pytest.raises(UserError, match=r"label the answers by its own: omni-train units --extr"):
        load_beginning(str(tmp_path / "checkpoint"), fitted / "units")
    refused = run("vocoder", fitted, "--recipe", "nsf", "--vocoder", "nano", "-o", tmp_path / "out")
    assert refused.exit_code == 2 and "speaks 500 units of another extractor" in refused.stderr
    assert not (tmp_path / "out").exists()
