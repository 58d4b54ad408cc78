"""The `omni-train` command as a newcomer meets it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, PretrainedConfig
from typer.testing import CliRunner

import data_tools.cli
from data_tools.manifest.record import read_manifest
from omni.checkpoint.bases import base_config, load_speech_encoder
from omni.files.folders import read_json, write_json
from omni.language_model import is_lora
from omni.loading import load
from omni.speech_encoder import SpeechEncoder
from omni.units.config import UnitsConfig, merge_repeats
from tests.foreign_bases import ct2_variables, write_ctranslate2, write_gguf
from tests.paths import ROOT
from tests.tiny import tiny_bases, tiny_model, tiny_records, tiny_tokenizer
from train.cli import app
from train.commands.choose import choose_stage1, choose_stage2
from train.commands.plan import plan_stage1
from train.stages.beginning import join_bases
from train.stages.recipes import frozen_stage1, lora_stage1
from train.voice.kmeans import read_frame_units
from train.voice.labels import clips, make_units

COMMANDS = (
    "lm",
    "encoder",
    "layers",
    "units",
    "vocoder",
    "align",
    "stage1",
    "stage2",
    "blocks",
    "evaluate",
    "nano",
)


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_help_names_every_command_and_does_not_wait_for_torch() -> None:
    started = time.perf_counter()
    code = "import sys, train.cli as c\ntry: c.app(['--help'])\nexcept SystemExit: pass\n"
    shown = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"],
        capture_output=True, text=True, check=True, cwd=ROOT,
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
    assert "recipe='nanoo': must be auto or one of nano" in result.stderr


def test_a_missing_manifest_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    result = run("lm", str(tmp_path / "none.jsonl"), "-o", str(tmp_path), "--recipe", "nano")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and "none.jsonl" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_nano_says_which_command_makes_what_it_lacks(tmp_path: Path) -> None:
    result = run("nano", str(tmp_path))
    assert result.exit_code == 2 and "omni-data nano" in result.stderr
    assert "must be one of letters, encoder" in run("nano", str(tmp_path), "--part", "voice").stderr
    last = run("nano", str(tmp_path), "--part", "evaluation")
    assert "omni-data nano" in last.stderr  # it is known; only the data is missing


def test_one_part_is_not_begun_anew_by_removing_all_of_them(tmp_path: Path) -> None:
    for part in ("stage1", "stage2", "frames", "checkpoint"):
        (tmp_path / part).mkdir()
    refused = run("mini", str(tmp_path), "--part", "stage1", "--restart")
    assert refused.exit_code == 2
    made_from_it = ", ".join(str(tmp_path / part) for part in ("stage1", "stage2", "checkpoint"))
    assert refused.stderr.strip().endswith(f"remove {made_from_it}")
    assert (tmp_path / "frames").is_dir()


def test_the_parts_of_a_model_come_after_what_they_need() -> None:
    from train.mini import MINI
    from train.nano import NANO

    for model in (MINI, NANO):
        made = set(model.given)
        for part in model.parts:
            assert set(model.needs[part]) <= made, part
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
    assert training and validation
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
    train("vocoder", tmp_path / "units", "--output", tmp_path / "voice", "--recipe", "nsf", *few)
    train("stage1", manifest, "--speech-encoder", encoder, "--language-model", language_model,
        "--output", tmp_path / "stage1", "--recipe", "auto", "--distillation-weight", "0.5",
        *few)  # fmt: skip
    train("stage2", tmp_path / "stage1" / "checkpoint", tmp_path / "units" / "records.jsonl",
        "--output", tmp_path / "stage2", "--voice", tmp_path / "voice" / "vocoder",
        "--recipe", "auto", "--gate-fusion", *few)  # fmt: skip

    taught = read_json(tmp_path / "stage1" / "run.json")["made_of"]["recipe"]
    assert (taught["language_model"], taught["distillation_weight"]) == ("lora", 0.5)
    model, _ = load(tmp_path / "stage2" / "checkpoint")
    assert model.vocoder is not None and model.vocoder.num_units == 5
    assert model.unit_decoder is not None and model.unit_decoder.blank == 5
    assert model.unit_decoder.config.gate_fusion
    assert (tmp_path / "stage2" / "checkpoint" / "units" / "centroids.safetensors").is_file()


def test_stage_1_takes_a_gguf_file_and_a_ctranslate2_folder(tmp_path: Path) -> None:
    tiny = tiny_model(vocoder=None)
    variables = ct2_variables(tiny.speech_encoder, torch.float16)
    encoder = write_ctranslate2(tmp_path / "ears", variables)
    llm = write_gguf(tmp_path / "mind.gguf", tiny.language_model, tiny_tokenizer(), "Q4_1")
    call = [
        "stage1", str(tiny_records(tmp_path / "data")), "--speech-encoder", str(encoder),
        "--language-model", str(llm), "--recipe", "auto", "--threads", "1", "--max-steps", "1",
        "--output", str(tmp_path / "stage1"),
    ]  # fmt: skip
    planned = run(*call, "--dry-run")
    assert planned.exit_code == 0 and "language model: lora" in planned.output
    trained = run(*call)
    assert trained.exit_code == 0, trained.output
    checkpoint = tmp_path / "stage1" / "checkpoint"
    assert read_json(checkpoint / "config.json")["bases"] == {
        "speech_encoder": str(encoder), "language_model": str(llm),
    }  # fmt: skip
    stored = {path.name for path in (checkpoint / "language_model").iterdir()}
    assert stored == {"adapter_config.json", "adapter_model.safetensors"}
    model, processor = load(checkpoint)
    assert is_lora(model.language_model)
    assert processor.tokenizer.chat_template == tiny_tokenizer().chat_template


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("command", ["lm", "encoder", "vocoder", "stage1", "stage2"])
def test_no_command_takes_the_nanos_recipe_by_itself(command: str, tmp_path: Path) -> None:
    manifest = str(tiny_records(tmp_path))
    needed = {
        "stage1": [manifest, "--speech-encoder", "x", "--language-model", "y"],
        "stage2": [str(tmp_path), manifest],
    }.get(command, [manifest])
    result = run(command, *needed, "--output", str(tmp_path / "out"))
    assert result.exit_code == 2 and "--recipe" in result.stderr
    assert not (tmp_path / "out").exists()


def test_units_need_a_layer_and_a_number_or_a_recipe(tmp_path: Path) -> None:
    encoder, _ = tiny_bases(tmp_path)
    manifest = str(tiny_records(tmp_path / "data"))
    result = run("units", manifest, "--speech-encoder", encoder, "-o", str(tmp_path / "units"))
    assert result.exit_code == 2 and "give --layer and --clusters" in result.stderr


def test_a_manifest_without_test_splits_is_not_evaluated_on_the_nanos(tmp_path: Path) -> None:
    manifest = str(tiny_records(tmp_path))
    text = Path(manifest).read_text().replace('"split": "test"', '"split": "later"')
    Path(manifest).write_text(text)
    result = run("evaluate", "none", manifest, "-o", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "no split begins with test, it has train, validation, later" in " ".join(
        result.stderr.split()
    )


def test_dry_runs_tell_what_would_be_trained_and_write_nothing(tmp_path: Path) -> None:
    encoder, language_model = tiny_bases(tmp_path)
    manifest = str(tiny_records(tmp_path / "data"))
    make_units(
        {"records.jsonl": read_manifest(manifest)}, load_speech_encoder(encoder),
        UnitsConfig(kind="speech_encoder", name="speech_encoder", layer=1),
        clusters=5, output=tmp_path / "units",
    )  # fmt: skip
    bases = ["--speech-encoder", encoder, "--language-model", language_model]
    calls = {
        "lm": [manifest, "--recipe", "nano", "--vocabulary", "300"],
        "encoder": [manifest, "--recipe", "nano", "--width", "64"],
        "units": [manifest, "--speech-encoder", encoder, "--recipe", "nano"],
        "vocoder": [str(tmp_path / "units"), "--recipe", "hifigan"],
        "align": [manifest, *bases, "--recipe", "mini"],
        "stage1": [manifest, *bases, "--recipe", "frozen"],
    }
    before = files(tmp_path)
    told = {}
    for command, arguments in calls.items():
        result = run(command, *arguments, "--output", str(tmp_path / "out"), "--dry-run")
        assert result.exit_code == 0, result.output
        told[command] = result.output
    assert files(tmp_path) == before
    assert all("examples: 8 train, 3 validation" in told[c] for c in ("align", "stage1"))
    assert "steps: 3 of 8 x 4 x 1 examples" in told["stage1"]
    start, _ = join_bases(encoder, language_model, frozen_stage1(), seed=1)
    for part in ("speech_encoder", "speech_adapter", "language_model"):
        count = sum(weight.numel() for weight in getattr(start, part).parameters())
        (line,) = (line for line in told["stage1"].splitlines() if line.startswith(part))
        assert f" {count:,} parameters" in line
        assert line.endswith("frozen") == (part != "speech_adapter")
    assert all("per process (weights " in told[c] for c in calls if c != "units")
    assert "500 units of layer 1" in told["units"]


def test_a_plan_counts_what_lora_adds(tmp_path: Path) -> None:
    bases = dict(zip(("speech_encoder", "language_model"), tiny_bases(tmp_path), strict=True))
    manifest = read_manifest(tiny_records(tmp_path / "data"))
    plan = plan_stage1(manifest, lora_stage1(), **bases)
    start, _ = join_bases(**bases, recipe=lora_stage1(), seed=1)
    added = sum(w.numel() for n, w in start.language_model.named_parameters() if "lora_" in n)
    assert {part.name: part.trained for part in plan.parts}["language_model"] == added > 0


def test_auto_takes_lora_unless_asked_and_says_so(tmp_path: Path) -> None:
    _, language_model = tiny_bases(tmp_path)
    name, recipe = choose_stage1("auto", lambda: base_config(language_model))
    assert (name, recipe.language_model) == ("nano", "lora")
    assert (
        choose_stage1("auto", lambda: base_config(language_model), "full")[1].language_model
        == "full"
    )
    large = tmp_path / "large"
    LlamaConfig(hidden_size=1536, num_hidden_layers=12, vocab_size=9000).save_pretrained(large)

    def text() -> PretrainedConfig:
        return base_config(str(large))

    assert choose_stage1("auto", text)[0] == "lora"
    assert choose_stage1("auto", text, "full")[0] == "published"
    assert choose_stage1("auto", text, "frozen")[0] == "frozen"
    for width, expected in ((64, "nano"), (960, "smollm"), (1600, "qwen"), (5120, "llama-3.1-8b")):
        write_json(tmp_path / "config.json", {"text_config": {"hidden_size": width}})
        assert choose_stage2("auto", tmp_path)[0] == expected


def test_features_made_ahead_are_found_by_stage_1_without_further_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, language_model = tiny_bases(tmp_path)
    manifest = str(tiny_records(tmp_path / "data"))
    made = CliRunner().invoke(data_tools.cli.app, ["features", manifest, "--encoder", encoder])
    assert made.exit_code == 0, made.output

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a question was encoded again")

    monkeypatch.setattr(SpeechEncoder, "forward", refuse)
    result = run(
        "stage1", manifest, "--speech-encoder", encoder, "--language-model", language_model,
        "--recipe", "nano", "--output", str(tmp_path / "stage1"), "--max-steps", "1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output


def test_an_impossible_device_or_type_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for option, value in (("--device", "tpu"), ("--dtype", "int3")):
        result = run(
            "lm", str(tmp_path / "none.jsonl"), "-o", str(tmp_path), "--recipe", "nano",
            option, value,
        )  # fmt: skip
        assert result.exit_code == 2 and f"'{value}'" in result.stderr
