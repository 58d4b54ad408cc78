"""--device and --dtype: every command where a model runs has them, and hands them on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import data_tools.cli
import omni.cli
import serve.cli
from omni.audio import save_wav
from omni.commands.starting import start
from omni.speech_encoder import save_speech_encoder
from omni.units import UnitExtractor, UnitsConfig
from omni.vocoder import save_vocoder
from omni.whisper_layers import SpeechEncoderLayer
from tests.tiny import question, tiny_model, tiny_processor, tiny_records, tiny_vocoder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the commands below name, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    tiny_records(tmp_path).rename("r.jsonl")
    save_wav("question.wav", question())
    encoder = tiny_model().speech_encoder
    save_speech_encoder(encoder, tmp_path / "e")
    config = UnitsConfig(kind="speech_encoder", name="e", layer=1)
    UnitExtractor(config, torch.randn(300, 32), encoder).save(tmp_path / "units")
    save_vocoder(tiny_vocoder("nsf"), tmp_path / "voice")
    return tmp_path


COMMANDS = {
    "ask": (omni.cli.app, "ask --text Why?"),
    "demo": (omni.cli.app, "demo"),
    "units": (omni.cli.app, "units question.wav --extractor units"),
    "tune": (serve.cli.app, "tune --chunk-units all --repeats 1"),
    "data units": (
        data_tools.cli.app,
        "units r.jsonl -o o.jsonl --extractor units --speech-encoder e",
    ),
    "data features": (data_tools.cli.app, "features r.jsonl -o frames --speech-encoder e"),
    "respond": (data_tools.cli.app, "respond r.jsonl -o o.jsonl --writer transformers --model m"),
    "rewrite": (data_tools.cli.app, "rewrite r.jsonl -o o.jsonl --writer transformers --model m"),
    "speak": (data_tools.cli.app, "speak r.jsonl -o o.jsonl --tts transformers --model m"),
}


def run(command: str, *options: str) -> Any:
    app, words = COMMANDS[command]
    return CliRunner().invoke(app, [*words.split(), *options])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_or_type_that_is_none_is_refused_in_one_line(command: str, here: Path) -> None:
    done = run(command, "--device", "gpu")
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: device='gpu': must be auto, cpu, cuda, cuda:N or mps")
    done = run(command, "--device", "cpu", "--dtype", "half")
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: dtype='half': must be auto, float32, bfloat16, float16")


def test_vocode_takes_a_device(here: Path) -> None:
    words = ["vocode", "--vocoder", "voice", "--units", "1 2 3", "-o", "said.wav", "--device"]
    done = CliRunner().invoke(omni.cli.app, [*words, "cpu"])
    assert done.exit_code == 0 and Path("said.wav").is_file()
    done = CliRunner().invoke(omni.cli.app, [*words, "gpu"])
    assert done.exit_code == 2 and "device='gpu'" in done.stderr


def test_a_model_is_loaded_where_and_as_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model().save_pretrained(tmp_path / "c", self_contained=True, processor=tiny_processor())
    model, _ = start(tmp_path / "c", device="cpu", dtype="bfloat16")
    stages = (model.speech_encoder, model.language_model, model.unit_decoder)
    assert {next(stage.parameters()).dtype for stage in stages} == {torch.bfloat16}
    assert start(tmp_path / "c", device="cpu")[0].dtype == torch.float32
    asked: dict[str, Any] = {}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)

    def noted(checkpoint: Path, **options: Any) -> Any:
        asked.update(options)
        return model, None

    monkeypatch.setattr("omni.commands.starting.load", noted)
    start(tmp_path / "c", device="cuda:1", dtype="float16")
    assert asked == {"device_map": torch.device("cuda", 1), "dtype": torch.float16}


@pytest.mark.parametrize("command", ["units", "data units"])
def test_units_are_computed_in_the_type_that_is_asked_for(
    command: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, forward = [], SpeechEncoderLayer.forward

    def noted(layer: SpeechEncoderLayer, x: torch.Tensor, *more: Any) -> Any:
        computed.append(x.dtype)
        return forward(layer, x, *more)

    monkeypatch.setattr(SpeechEncoderLayer, "forward", noted)
    for dtype in ("float32", "bfloat16"):
        options = ["--workers", "1"] if command == "data units" else []
        done = run(command, "--device", "cpu", "--dtype", dtype, *options)
        assert done.exit_code == 0, done.stderr
    assert set(computed) == {torch.float32, torch.bfloat16}


def test_frames_of_an_encoder_in_bfloat16_are_told_from_those_in_float32(here: Path) -> None:
    assert run("data features", "--device", "cpu").exit_code == 0
    done = run("data features", "--device", "cpu", "--dtype", "bfloat16")
    assert done.exit_code == 2 and "frames" in done.stderr
