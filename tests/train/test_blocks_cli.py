"""`omni-train blocks` as its user meets it."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from omni.checkpoint import load_speech_encoder
from tests.tiny import tiny_bases, tiny_records
from train.cli import app
from train.stages.beginning import join_bases
from train.stages.recipes import frozen_stage1


def test_what_is_planned_is_what_is_learnt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, processor = join_bases(*tiny_bases(tmp_path), frozen_stage1(), seed=1)
    model.save_pretrained(tmp_path / "whole", processor=processor)
    call = [
        "blocks", str(tmp_path / "whole"), str(tiny_records(tmp_path / "data")),
        "--output", str(tmp_path / "out"),
        "--block-frames", "10", "--left-blocks", "3", "--rank", "2", "--max-steps", "2",
    ]  # fmt: skip
    plan = CliRunner().invoke(app, [*call, "--dry-run"])
    assert plan.exit_code == 0, plan.output
    assert not (tmp_path / "out").exists()
    with caplog.at_level("INFO"):
        learnt = CliRunner().invoke(app, call)
    assert learnt.exit_code == 0, learnt.output
    folder = tmp_path / "out/checkpoint/speech_encoder"
    added = sum(t.numel() for t in load_file(folder / "adapter_model.safetensors").values())
    assert f"{added:,} of them train" in plan.output
    assert "before: relative_rms" in caplog.text and "relative_rms" in learnt.output
    encoder = load_speech_encoder(str(folder)).config
    assert (encoder.block_frames, encoder.left_blocks) == (10, 3)


def test_blocks_of_nothing_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    call = ["blocks", "none", "none.jsonl", "-o", str(tmp_path / "out"), "--block-frames", "0"]
    refused = CliRunner().invoke(app, call)
    assert refused.exit_code == 2 and "--block-frames" in refused.stderr


@pytest.mark.parametrize("command", ["blocks", "align", "stage1"])
def test_what_ships_is_planned_by_its_name_without_a_network(command: str, tmp_path: Path) -> None:
    checkpoint = ["mini"] if command == "blocks" else ["--checkpoint", "mini"]
    manifest = str(tiny_records(tmp_path / "data"))
    recipe = [] if command == "blocks" else ["--recipe", "auto"]
    call = [command, *checkpoint, *recipe, manifest, "--output", str(tmp_path / "out"), "--dry-run"]
    plan = CliRunner().invoke(app, call)
    assert plan.exit_code == 0, plan.output
    assert "examples: " in plan.output


@pytest.mark.parametrize("asked", [[], ["--max-steps", "7"]])
def test_epochs_that_are_asked_for_are_trained_whatever_steps_the_recipe_has(
    asked: list[str], tmp_path: Path
) -> None:
    manifest = str(tiny_records(tmp_path / "data"))
    call = [
        "stage1", manifest, "--checkpoint", "mini", "--recipe", "mini", "--epochs", "3",
        "--batch-size", "4", "--output", str(tmp_path / "out"), "--dry-run", *asked,
    ]  # fmt: skip
    plan = CliRunner().invoke(app, call)
    assert plan.exit_code == 0, plan.output
    assert f"steps: {7 if asked else 6} of " in plan.output and "3 epochs" in plan.output
