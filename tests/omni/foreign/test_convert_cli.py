"""The commands of conversion, as a user types them."""

import json

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from omni.cli import app
from omni.files import SHIPPED
from tests.published import CHECKPOINT, ENCODER, HUBERT, QUESTIONS, VOCODER, facts

torch.set_num_threads(1)


def omni(*arguments, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + result.stderr
    return result


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "checkpoint"
    omni("convert", "llama-omni", CHECKPOINT, "-o", folder, "--whisper", ENCODER)
    return folder


@pytest.mark.parametrize("question", QUESTIONS)
def test_ask_reproduces_the_original(checkpoint, question):
    result = omni(
        "ask", QUESTIONS[question], "--checkpoint", checkpoint, "--json", "--text-only",
        "--max-new-tokens", 24,
    )  # fmt: skip
    said, golden = json.loads(result.stdout), facts()["wavs"][question]
    assert said["token_ids"] == golden["ids"]
    assert said["text"] == golden["text"]
    assert said["units"] == golden["units"]


def test_a_checkpoint_without_a_voice_says_how_to_ask_it(tmp_path, checkpoint):
    out = tmp_path / "answer.wav"
    told = omni(
        "ask", QUESTIONS["question_slt"], "--checkpoint", checkpoint, "-o", out, code=2
    ).stderr  # fmt: skip
    assert "--text-only" in told
    assert not out.exists()


def test_ask_speaks_with_a_converted_voice(tmp_path):
    folder, answer = tmp_path / "checkpoint", tmp_path / "answer.wav"
    omni(
        "convert", "llama-omni", CHECKPOINT, "-o", folder,
        "--whisper", ENCODER, "--vocoder", VOCODER,
    )  # fmt: skip
    result = omni(
        "ask", QUESTIONS["question_slt"], "--checkpoint", folder, "--json", "-o", answer,
        "--max-new-tokens", 8,
    )  # fmt: skip
    said = json.loads(result.stdout)
    assert len(soundfile.read(answer)[0]) == sum(chunk["samples"] for chunk in said["chunks"]) > 0


def test_units_come_from_an_extractor_converted_in_either_order(tmp_path):
    golden = json.loads((HUBERT / "golden.json").read_text())["models"]["base"]["units"]
    kmeans = ("convert", "kmeans", HUBERT / "base_L3_km100.bin")
    hubert = ("convert", "hubert", HUBERT / "hubert_base.pt")
    for place, order in enumerate([(kmeans, hubert), (hubert, kmeans)]):
        folder = tmp_path / str(place)
        for command in order:
            omni(*command, "-o", folder)
        path = QUESTIONS["question_slt"]
        result = omni("units", path, path, "--extractor", folder, "--layer", 3)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        assert [line["units"] for line in lines] == [golden["question_slt"]["reduced"]] * 2
        assert lines[0]["file"] == str(path)


def test_half_an_extractor_says_which_half_is_missing(tmp_path):
    omni("convert", "kmeans", HUBERT / "base_L3_km100.bin", "-o", tmp_path / "a")
    told = omni("units", QUESTIONS["question_slt"], "--extractor", tmp_path / "a", code=2).stderr
    assert "omni convert hubert" in told
    omni("convert", "hubert", HUBERT / "hubert_base.pt", "-o", tmp_path / "b", "--layer", 3)
    told = omni("units", QUESTIONS["question_slt"], "--extractor", tmp_path / "b", code=2).stderr
    assert "omni convert kmeans" in told


def test_vocode_speaks_units_with_and_without_durations(tmp_path):
    omni("convert", "vocoder", VOCODER, "-o", tmp_path / "voice")
    record = json.loads((VOCODER / "golden.json").read_text())["seqs"]
    name = next(iter(record))
    text = " ".join(map(str, record[name]["units"]))
    golden = np.load(VOCODER / "golden.npz")
    for option, key in (("--durations", "dur"), ("--no-durations", "nodur")):
        out = tmp_path / f"{key}.wav"
        omni("vocode", "--vocoder", tmp_path / "voice", "--units", text, option, "-o", out)
        samples, rate = soundfile.read(out)
        assert rate == 16_000
        np.testing.assert_allclose(samples, golden[f"{name}.{key}"].reshape(-1), atol=2e-4)


def test_a_checkpoint_lends_its_units_and_its_voice_also_by_name(tmp_path):
    question, out = SHIPPED["nano"].parent / "questions" / "3-elephant.wav", tmp_path / "out.wav"
    for source in ("nano", SHIPPED["nano"]):
        said = json.loads(omni("units", question, "--extractor", source).stdout)["units"]
        omni("vocode", "--vocoder", source, "--units", " ".join(map(str, said)), "-o", out)
        assert len(said) > 10 and len(soundfile.read(out)[0]) >= 320 * len(said)
        out.unlink()


@pytest.mark.parametrize("units", ["", "a b", "-1 -1", "5 1000"])
def test_units_that_cannot_be_spoken_are_told(tmp_path, units):
    omni("convert", "vocoder", VOCODER, "-o", tmp_path / "voice")
    out = tmp_path / "out.wav"
    result = omni("vocode", "--vocoder", tmp_path / "voice", f"--units={units}", "-o", out, code=2)
    assert result.stderr.splitlines()[-1].startswith("error: unit")
    assert not out.exists()


def test_a_whisper_folder_and_an_export_are_written(tmp_path, checkpoint):
    omni("convert", "whisper", ENCODER, "-o", tmp_path / "encoder")
    assert (tmp_path / "encoder" / "model.safetensors").is_file()
    omni("export", checkpoint, "-o", tmp_path / "back", "--encoder-file", "elsewhere/large-v3.pt")
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["speech_encoder"] == "elsewhere/large-v3.pt"


def test_what_is_there_is_never_overwritten(tmp_path, checkpoint):
    before = sorted(checkpoint.rglob("*"))
    for command in (
        ("convert", "whisper", ENCODER), ("convert", "vocoder", VOCODER),
        ("convert", "llama-omni", CHECKPOINT), ("export", checkpoint),
        ("convert", "kmeans", HUBERT / "base_L3_km100.bin"),
        ("convert", "hubert", HUBERT / "hubert_base.pt"),
    ):  # fmt: skip
        told = omni(*command, "-o", checkpoint, code=2).stderr
        assert str(checkpoint) in told and "new" in told
    assert sorted(checkpoint.rglob("*")) == before


def test_a_refused_file_leaves_nothing_behind(tmp_path):
    cut = tmp_path / "source" / "cut.pt"
    cut.parent.mkdir()
    cut.write_bytes(ENCODER.read_bytes()[:100_000])
    for command in (
        ("convert", "whisper", cut), ("convert", "hubert", cut), ("convert", "kmeans", cut),
        ("convert", "llama-omni", CHECKPOINT),
        ("convert", "vocoder", tmp_path / "source"),
    ):  # fmt: skip
        extra = ("--whisper", cut) if command[1] == "llama-omni" else ()
        told = omni(*command, "-o", tmp_path / "target", *extra, code=2).stderr
        assert told.startswith("error: ")
        assert "Traceback" not in told
        assert [path.name for path in tmp_path.iterdir()] == ["source"]
