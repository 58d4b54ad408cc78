"""The `omni` command: what it prints and writes, and how it says what is wrong with its input."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from omni.cli import app
from tests.tiny import tiny_model, tiny_processor

RATE = 16_000
SPEECH = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    tiny_model().save_pretrained(folder, self_contained=True, processor=tiny_processor())
    return folder


@pytest.fixture
def question(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "question.wav", SPEECH, RATE)
    return tmp_path / "question.wav"


def omni(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ask(checkpoint: Path, *arguments: object) -> Result:
    return omni("ask", "--checkpoint", checkpoint, "--max-new-tokens", 8, *arguments)


def assert_bad_input(result: Result, *says: str) -> None:
    """One line that holds `says`, exit code 2, nothing else on either stream."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n")
    for words in says:
        assert words in result.stderr


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, omni.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    started = time.perf_counter()
    assert "ask" in omni("--help").stdout
    assert time.perf_counter() - started < 2


def test_an_answer_is_text_then_speech_then_times(
    checkpoint: Path, question: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reply.wav"
    result = ask(checkpoint, question, "-o", out)
    assert result.exit_code == 0, result.output
    samples, rate = soundfile.read(out)
    assert rate == RATE and len(samples) > 0
    flat = " ".join(result.stdout.split())
    for title in ("encode", "prefill", "total", "real-time", f"{out.name}:"):
        assert title in flat


def test_json_is_one_object_and_tells_what_was_said(
    checkpoint: Path, question: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reply.wav"
    result = ask(checkpoint, question, "-o", out, "--json", "--chunk-units", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    said = json.loads(result.stdout)
    assert {"text", "token_ids", "units", "timings_ms", "chunks"} <= said.keys()
    assert said["timings_ms"]["first_audio_ms"] > 0
    assert sum(chunk["units"] for chunk in said["chunks"]) == len(said["units"])
    assert sum(chunk["samples"] for chunk in said["chunks"]) == len(soundfile.read(out)[0])


def test_the_chunk_size_changes_when_and_never_what(checkpoint: Path, tmp_path: Path) -> None:
    answers = {}
    for size in ("1", "3", "1,2,4", "auto", "all"):
        result = ask(
            checkpoint, "--text", "hello", "-o", tmp_path / "a.wav", "--json", "--chunk-units", size
        )
        answers[size] = json.loads(result.stdout)
    assert len({(a["text"], *a["token_ids"], *a["units"]) for a in answers.values()}) == 1
    assert len(answers["all"]["chunks"]) == 1
    assert len(answers["1"]["chunks"]) > len(answers["3"]["chunks"])


def test_the_checkpoints_own_schedule_is_the_default(
    checkpoint: Path, question: Path, tmp_path: Path
) -> None:
    tuned = copy_of(checkpoint, tmp_path)
    edit_json(tuned / "generation_config.json", chunk_schedule="2", _from_model_config=None)
    said = json.loads(ask(tuned, question, "-o", tmp_path / "a.wav", "--json").stdout)
    assert {chunk["units"] for chunk in said["chunks"][:-1]} == {2}


def test_text_only_makes_no_sound(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = ask(checkpoint, "--text", "hello", "--text-only")
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_any_rate_and_any_channels_are_heard(checkpoint: Path, tmp_path: Path, rate: int) -> None:
    seconds = np.arange(rate) / rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * seconds)
    soundfile.write(tmp_path / "stereo.flac", np.stack([tone, tone], axis=1), rate)
    soundfile.write(
        tmp_path / "mono.wav", 0.3 * np.sin(np.arange(RATE) * 440 * 2 * np.pi / RATE), RATE
    )
    heard = [
        json.loads(ask(checkpoint, tmp_path / name, "-o", tmp_path / "a.wav", "--json").stdout)
        for name in ("stereo.flac", "mono.wav")
    ]
    assert heard[0]["token_ids"] == heard[1]["token_ids"]


def test_info_tells_stages_sizes_and_training(checkpoint: Path) -> None:
    result = omni("info", checkpoint)
    assert result.exit_code == 0, result.output
    for name in ("speech_encoder", "speech_adapter", "language_model", "unit_decoder", "vocoder"):
        assert name in result.stdout
    total = sum(weight.numel() for weight in tiny_model().parameters())
    assert f"{total:,} parameters" in result.stdout


# ------------------------------------------------------------------------------- bad input


def test_a_missing_file_is_named(checkpoint: Path) -> None:
    assert_bad_input(ask(checkpoint, "nowhere.wav"), "nowhere.wav: no such file")


def test_an_empty_file_is_named(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    assert_bad_input(ask(checkpoint, tmp_path / "empty.wav"), "empty.wav", "empty (0 bytes)")


def test_a_file_that_is_no_audio_is_named(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("buy milk")
    assert_bad_input(ask(checkpoint, tmp_path / "notes.wav"), "notes.wav: not readable as audio")


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.zeros(0), "holds no samples"),
        (np.zeros(RATE), "1.0 s of silence"),
        (np.where(np.arange(RATE) == 7, np.nan, 0.1), "1 samples are NaN or infinite"),
        (np.where(np.arange(RATE) < 2, np.inf, 0.1), "2 samples are NaN or infinite"),
        (np.full(100, 0.1), "record the whole question"),
        (np.tile(SPEECH, 40), "40.0 s of audio"),
    ],
    ids=["no samples", "silence", "NaN", "infinite", "a moment", "too long"],
)
def test_audio_that_cannot_be_answered_is_refused(
    checkpoint: Path, tmp_path: Path, samples: np.ndarray, says: str
) -> None:
    soundfile.write(tmp_path / "odd.wav", samples, RATE, subtype="FLOAT")
    assert_bad_input(ask(checkpoint, tmp_path / "odd.wav", "-o", tmp_path / "a.wav"), says)
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give a recording or --text"),
        (["question.wav", "--text", "hello"], "one of the two"),
        (["--text", "  "], "at least one word"),
        (["--text", "a", "--chunk-units", "many"], "chunk schedule 'many'"),
        (["--text", "a", "--chunk-units", "0"], "must be at least 1"),
        (["--text", "a", "-o", "no/such/folder/a.wav"], "does not exist"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    checkpoint: Path, arguments: list[str], says: str
) -> None:
    assert_bad_input(ask(checkpoint, *arguments), says)


def copy_of(checkpoint: Path, folder: Path) -> Path:
    return Path(shutil.copytree(checkpoint, folder / "copy"))


def edit_json(path: Path, **changes: object) -> None:
    """Set keys; None removes one."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def without(name: str) -> Callable[[Path], None]:
    return lambda path: edit_weights(path, lambda tensors: tensors.pop(name))


def misshaped(name: str) -> Callable[[Path], None]:
    return lambda path: edit_weights(
        path, lambda tensors: tensors.update({name: torch.zeros(3, 2)})
    )


def edit_weights(path: Path, edit: Callable[[dict], object]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


WEIGHTS = {
    "speech_encoder/model.safetensors": "conv1.bias",
    "speech_adapter.safetensors": "linear1.bias",
    "language_model/model.safetensors": "model.layers.0.mlp.down_proj.weight",
    "unit_decoder.safetensors": "input_proj.bias",
    "vocoder/model.safetensors": "dur_predictor.proj.bias",
}


@pytest.mark.parametrize("damage", [without, misshaped])
@pytest.mark.parametrize("file", WEIGHTS)
def test_a_damaged_weight_is_named(
    checkpoint: Path, question: Path, tmp_path: Path, file: str, damage: Callable
) -> None:
    broken = copy_of(checkpoint, tmp_path)
    damage(WEIGHTS[file])(broken / file)
    assert_bad_input(ask(broken, question, "--text-only"), file.split("/")[0], WEIGHTS[file])


@pytest.mark.parametrize("file", WEIGHTS)
def test_a_truncated_file_is_named(
    checkpoint: Path, question: Path, tmp_path: Path, file: str
) -> None:
    broken = copy_of(checkpoint, tmp_path)
    (broken / file).write_bytes((broken / file).read_bytes()[:20])
    assert_bad_input(ask(broken, question, "--text-only"), file.split("/")[0])


@pytest.mark.parametrize("command", ["ask", "info"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"speech_adapter": {"stak": 5}}, "unknown key 'stak'"),
        ({"speech_adapter": {"stack": 0}}, "stack=0: must be at least 1"),
        ({"speech_adapter": 7}, "speech_adapter"),
        ({"unit_decoder": {"width": 16}}, "unit_decoder"),
        ({"speech_adaptor": {"stack": 5}}, "unknown key 'speech_adaptor'"),
        ({"audio_config": {"d_model": "wide"}}, "d_model"),
        ({"text_config": {"model_type": "lama"}}, "lama"),
        ({"format_version": 99}, "format_version=99"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_broken_config_key_is_named(
    checkpoint: Path, question: Path, tmp_path: Path, command: str, changes: dict, says: str
) -> None:
    broken = copy_of(checkpoint, tmp_path)
    edit_json(broken / "config.json", **changes)
    result = ask(broken, question, "--text-only") if command == "ask" else omni("info", broken)
    assert_bad_input(result, says)


def test_a_broken_schedule_in_the_settings_is_named(
    checkpoint: Path, question: Path, tmp_path: Path
) -> None:
    broken = copy_of(checkpoint, tmp_path)
    edit_json(broken / "generation_config.json", chunk_schedule="fast", _from_model_config=None)
    assert_bad_input(ask(broken, question, "--text-only"), "chunk schedule 'fast'")


def test_a_config_that_is_no_json_is_named(
    checkpoint: Path, question: Path, tmp_path: Path
) -> None:
    broken = copy_of(checkpoint, tmp_path)
    (broken / "config.json").write_text("{")
    assert_bad_input(ask(broken, question, "--text-only"), "config.json: not readable as JSON")


def test_a_folder_that_is_no_checkpoint_is_named(question: Path, tmp_path: Path) -> None:
    assert_bad_input(ask(tmp_path, question, "--text-only"), "config.json: no such file")
    for nowhere in (tmp_path / "nowhere", Path("~nobody-of-that-name/checkpoint")):
        assert_bad_input(ask(nowhere, question, "--text-only"), "no such file or folder")
    assert_bad_input(ask(question, question, "--text-only"), f"{question}: is a file, must be a")
