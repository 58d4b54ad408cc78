"""The mini's recipe on tiny bases in their true formats: every part is made, kept and packaged."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import data_tools.cli
import data_tools.mini.data
import train.mini.making as mini
import train.mini.setting as setting
import train.parts.making
from omni.about.card import card_metadata
from omni.audio import load_audio
from omni.cli import app
from omni.files import SHIPPED, UserError, read_json
from omni.loading import load
from omni.session import SessionConfig, SpeechSession
from omni.vocoder import NsfConfig
from tests.foreign_bases import ct2_variables, write_ctranslate2, write_gguf
from tests.mini_data import Tones
from tests.tiny import tiny_model, tiny_tokenizer
from train.cli import app as omni_train
from train.loop import LoopConfig
from train.parts import complete, megabytes
from train.stages import mini_align, mini_stage1, mini_stage2, mini_units, mini_vocoder

torch.set_num_threads(1)
EARS, MIND = "someone/ears", "someone/mind"
PARTS = list(mini.MINI.parts)
CPU = {"device": "cpu", "dtype": "float32"}


class Killed(Exception):
    pass


@dataclass
class Made:
    """A run that was made; data: the calls of `omni-data`, after the program's name."""

    folder: Path
    data: list[list[str]]


def short(loop: LoopConfig) -> LoopConfig:
    return replace(
        loop, max_steps=2, save_steps=2, eval_steps=2, batch_size=4, workers=0, bf16=False
    )


def shrink(patch: pytest.MonkeyPatch) -> None:
    """The recipe with other sizes and two steps a part."""
    stage1 = mini_stage1()
    # Tones are short for their words: a position for each two frames.
    adapter = replace(stage1.adapter, stack=2, hidden=16)
    stage1 = replace(
        stage1, loop=short(stage1.loop), adapter=adapter, lora=replace(stage1.lora, rank=2)
    )
    vocoder, align, stage2 = mini_vocoder(), mini_align(), mini_stage2()
    assert isinstance(vocoder.architecture, NsfConfig)
    made = {
        "mini_align": replace(align, hearing=stage1, loop=short(align.loop)),
        "mini_stage1": stage1,
        "mini_units": replace(mini_units(), clusters=12, layer=1),
        "mini_vocoder": replace(
            vocoder,
            architecture=replace(
                vocoder.architecture, num_units=12, width=16, mid_width=8, fine_width=8,
                prosody_width=8, duration_width=8,
            ),
            loop=short(vocoder.loop),
        ),
        "mini_stage2": replace(
            stage2, hearing=stage1, loop=short(stage2.loop), units=12, width=32, heads=2, ffn=64
        ),
    }  # fmt: skip
    for name, recipe in made.items():
        patch.setattr(mini, name, lambda recipe=recipe: recipe)


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A folder for a run, two bases to fetch beside it, and `omni-data` with an engine of tones."""
    place = tmp_path_factory.mktemp("mini")
    model = tiny_model(vocoder=None)
    ears = ct2_variables(model.speech_encoder, torch.float16)
    write_ctranslate2(place / "published" / EARS, ears)
    (place / "published" / MIND).mkdir(parents=True)
    gguf = place / "published" / MIND / "mind.gguf"
    write_gguf(gguf, model.language_model, tiny_tokenizer(), "Q4_1")
    texts = place / "texts"
    texts.mkdir()
    rows = [{"question": f"who painted the {n} door", "answer": ["Ann"]} for n in ("red", "blue")]
    (texts / "nq-open-dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "tale.txt").write_text("The old man went down to the sea again.\n")
    calls: list[list[str]] = []

    def omni_data(arguments: Sequence[str]) -> None:
        calls.append(list(arguments))
        done = CliRunner().invoke(data_tools.cli.app, list(arguments))
        assert done.exit_code == 0, done.output

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMNI_BASES", str(place / "bases"))
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setattr(data_tools.mini.data, "engines", lambda piper: Tones())
        patch.setattr(setting, "run_omni_data", omni_data)
        shrink(patch)
        yield Made(place / "run", calls)


@pytest.fixture(scope="module")
def made(surroundings: Made) -> Made:
    """All parts, each begun as by a command of its own; stage 1 dies once on its way."""
    folder = surroundings.folder
    options = {
        "speech_encoder": EARS, "language_model": MIND, "questions": 30,
        "texts": folder.parent / "texts", "prose": folder.parent / "tale.txt",
        "source": str(folder.parent / "published"),
    }  # fmt: skip
    mini.MINI.begin(folder, **options, **CPU)
    for part in PARTS[: PARTS.index("stage1")]:
        mini.MINI.build(folder, part, **options, **CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini, "train_stage1", dies)
        with pytest.raises(Killed):
            mini.MINI.build(folder, "stage1", **CPU)
    assert not complete(folder, "stage1")
    for part in PARTS[PARTS.index("stage1") :]:
        mini.MINI.build(folder, part, **CPU)  # options are remembered
    return surroundings


def dies(*_: object, **__: object) -> None:
    raise Killed


def test_every_part_is_made_and_a_killed_one_goes_on(made: Made) -> None:
    assert all(complete(made.folder, part) for part in PARTS)
    told = CliRunner().invoke(omni_train, ["mini", str(made.folder), "--dry-run"])
    assert told.stdout.count("is there") == len(PARTS)
    again = CliRunner().invoke(omni_train, ["mini", str(made.folder)])  # nothing is left to do
    assert again.exit_code == 0, again.output


def test_each_part_gets_the_options_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(
        train.parts.making, "run_parts",
        lambda *_, command, **__: commands.append(list(command("align", 2))),
    )  # fmt: skip
    options = ["--from", "packages", "--questions", "9", "--seed", "3", "--threads", "1"]
    whole = CliRunner().invoke(omni_train, ["mini", str(tmp_path), *options])
    assert whole.exit_code == 0, whole.output
    (words,) = commands
    for option, value in zip(options[::2], options[1::2], strict=True):
        assert words[words.index(option) + 1] == value
    alone = CliRunner().invoke(omni_train, words[words.index("mini") :])
    assert alone.exit_code == 2  # all of it is understood; what comes before is not there
    assert f"omni-train mini {tmp_path} --part answers" in alone.stderr


def test_data_and_frames_are_the_users_own_commands(made: Made) -> None:
    speak, answer, encode = made.data
    assert speak[:4] == ["mini", str(made.folder / "data"), "--questions", "30"]
    assert speak[speak.index("--prose") + 1] == str(made.folder.parent / "tale.txt")
    assert answer[: len(speak)] == speak and answer[-3:-1] == [MIND, "--device"]
    assert encode[0] == "features" and "--variants" in encode
    # Alignment and stages found every frame there.
    assert not any((made.folder / part / "frames").exists() for part in ("align", "stage1"))


def test_the_run_names_the_prose_it_was_given_and_only_then(made: Made, tmp_path: Path) -> None:
    data = read_json(made.folder / "run.json")["made_of"]["data"]
    assert data["prose"] == str(made.folder.parent / "tale.txt")
    # A run that was begun before there was prose goes on.
    assert "prose" not in setting.chosen(tmp_path, {}).made_of()["data"]


def test_the_checkpoint_holds_what_was_trained_and_names_its_bases(made: Made) -> None:
    folder = made.folder / "checkpoint"
    config = read_json(folder / "config.json")
    assert config["bases"] == {"speech_encoder": EARS, "language_model": MIND}
    assert set(config["base_digests"]) == {EARS, MIND}
    assert not (folder / "speech_encoder").exists()
    names = {path.name for path in (folder / "language_model").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors"}
    assert (folder / "units" / "centroids.safetensors").is_file()
    for file in folder.rglob("*.safetensors"):
        if file.parent.name != "units":
            weights = [t for t in load_file(file).values() if t.is_floating_point()]
            assert {weight.dtype for weight in weights} == {torch.float16}, file
    assert card_metadata(folder)["base_model"] == [EARS, MIND]
    card = (folder / "README.md").read_text()
    assert config["base_digests"][EARS][:12] in card and "unit decoder" in card


def test_it_answers_in_text_and_in_sound(made: Made, tmp_path: Path) -> None:
    model, processor = load(made.folder / "checkpoint")
    question = load_audio(next((made.folder / "data/audio/questions/train").glob("*.wav")))
    session = SpeechSession(model, processor, SessionConfig(max_new_tokens=6))
    *events, done = session.ask(question)
    assert done.units and sum(len(getattr(e, "waveform", ())) for e in events) > 0
    assert model.vocoder is not None and model.vocoder.recommended_right_context_frames <= 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"questions": 31}, "data.questions=30, this one has 31"),
        ({"seed": 2}, "seed=1, this one has 2"),
        ({"speech_encoder": "someone/else"}, "bases.speech_encoder="),
    ],
)
def test_a_folder_that_was_begun_with_something_else_is_refused(
    made: Made, options: dict[str, object], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        mini.MINI.build(made.folder, "stage1", **options, **CPU)


def test_data_that_changed_under_the_parts_are_refused(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "data").mkdir(parents=True)
    shutil.copy(made.folder / "run.json", folder)
    shutil.copytree(made.folder / "answers", folder / "answers")
    for file in (made.folder / "data").glob("*.jsonl"):
        shutil.copy(file, folder / "data")
    (folder / "data" / "audio").symlink_to(made.folder / "data" / "audio")
    mini.MINI.begin(folder)
    records = folder / "data" / "records.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"records\.jsonl: has changed since its answers"):
        mini.MINI.begin(folder)


def test_mini_is_the_name_of_the_checkpoint_that_ships(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> str:
        options = ["--checkpoint", "mini", "--text-only", "--max-new-tokens", "2"]
        done = CliRunner().invoke(app, ["ask", "--text", "Hello", *options])
        return done.stdout if done.exit_code == 0 else done.stderr

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SHIPPED, "mini", tmp_path / "nothing")
    assert ask().startswith("error: mini: its weights do not come with this version; make them by")
    told = CliRunner().invoke(app, ["fetch-bases", "mini"]).stderr
    assert "omni-train mini DIR" in told
    monkeypatch.setitem(SHIPPED, "mini", made.folder / "checkpoint")
    assert "first" in ask()  # the table of times
    with monkeypatch.context() as patch:
        patch.setenv("OMNI_BASES", str(tmp_path / "none"))
        told = ask()
    assert told == (
        f"error: mini: is built on {EARS} and {MIND}, not on this machine, and nothing is "
        "downloaded unasked; run: omni fetch-bases mini\n"
    )
    assert "mini" in CliRunner().invoke(app, ["info", "mini"]).stdout


def test_the_recipes_own_sizes_stay_below_60_mb_with_the_nano() -> None:
    """Above bases of the published sizes, which are not part of it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from omni.language_model import add_lora
    from omni.speech_adapter import SpeechAdapter
    from omni.unit_decoder import UnitDecoder
    from omni.vocoder import NsfVocoder

    whisper, width = 384, 576  # tiny.en, SmolLM2-135M
    stage1, stage2 = mini_stage1(), mini_stage2()
    architecture = mini_vocoder().architecture
    assert isinstance(architecture, NsfConfig)
    smollm = LlamaConfig(
        vocab_size=49152, hidden_size=width, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, intermediate_size=1536, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        lora = add_lora(LlamaForCausalLM(smollm), rank=stage1.lora.rank, alpha=stage1.lora.alpha)
        parts = {
            "adapter": SpeechAdapter(stage1.adapter, input_width=whisper, output_width=width),
            "unit decoder": UnitDecoder(stage2.decoder(width, 49_152)),
            "vocoder": NsfVocoder(architecture),
        }
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    count["lora"] = sum(p.numel() for n, p in lora.named_parameters() if "lora_" in n)
    letters = 49_152 * stage2.spelling / 1e6  # a byte each
    tokenizer = 1.6  # MB: SmolLM2's without blanks
    centroids = 4 * mini_units().clusters * whisper / 1e6
    total = 2 * sum(count.values()) / 1e6 + tokenizer + centroids + letters
    assert total < 32 and total + megabytes(SHIPPED["nano"].parent) < 60, count
