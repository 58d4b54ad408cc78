"""A run knows what it is: other data, recipe, bases or units in the same folder are refused."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train.nano.making as nano
from data_tools.encode.features import FeaturesConfig, extract_features
from data_tools.manifest import Manifest, Record, read_manifest
from omni.audio import save_wav
from omni.checkpoint.bases import load_speech_encoder
from omni.files.errors import UserError
from omni.prompt import SPEECH, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from omni.speech_encoder import save_speech_encoder
from omni.units.config import UnitsConfig
from omni.vocoder import NsfConfig
from tests.tiny import UNITS, question, tiny_bases, tiny_records
from train.bases.lm import SmallLlama, train_lm
from train.data.batches import examples
from train.data.fingerprint import state_content
from train.loop import LoopConfig
from train.loop.run import begin_run
from train.stages.beginning import join_bases
from train.stages.stage1 import Stage1, train_stage1
from train.stages.stage2 import Stage2, train_stage2
from train.voice import clips, make_units
from train.voice.vocoder import train_vocoder

torch.set_num_threads(1)
LOOP = LoopConfig(epochs=1, batch_size=4, learning_rate=1e-3, max_steps=1)
STAGE1 = Stage1(
    adapter=SpeechAdapterConfig(stack=5, hidden=32),
    prompt=PromptConfig(speech_line=SPEECH),
    loop=LOOP,
)
STAGE2 = Stage2(
    hearing=STAGE1, loop=LOOP, units=UNITS, width=32, layers=1, heads=2, ffn=32, upsample=6
)
NSF = NsfConfig(
    num_units=5, width=16, prosody_width=12, mid_width=8, fine_width=8, duration_width=8
)
FEATURES = UnitsConfig(kind="speech_encoder", name="speech_encoder", layer=1)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return read_manifest(tiny_records(tmp_path / "data"))


@pytest.fixture
def bases(tmp_path: Path) -> tuple[str, str]:
    return tiny_bases(tmp_path / "bases")


def changed(manifest: Manifest, change: Callable[[Record], Record], place: int = 0) -> Manifest:
    """The manifest with another record at one place."""
    records = list(manifest.records)
    records[place] = change(records[place])
    return replace(manifest, records=records)


def other_answer(record: Record) -> Record:
    return replace(record, turns=(record.turns[0], replace(record.turns[1], text="Rome.")))


def other_units(record: Record) -> Record:
    turn = replace(record.turns[1], units=tuple(reversed(record.turns[1].units or ())))
    return replace(record, turns=(record.turns[0], turn, *record.turns[2:]))


def say_anew(manifest: Manifest, role: str) -> None:
    """Another recording of the same name, date apart, and of the same size."""
    place = 0 if role == "user" else 1
    path = manifest.audio_path(manifest.records[0].turns[place])
    before = path.stat().st_size
    save_wav(path, question((before - 44) / 2 / 16_000, seed=77))
    assert path.stat().st_size == before


def listen(manifest: Manifest, bases: tuple[str, str], output: Path, recipe=STAGE1, **options):
    return train_stage1(
        manifest, speech_encoder=bases[0], language_model=bases[1], recipe=recipe, output=output,
        **options,
    )  # fmt: skip


def weights(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}


def test_a_finished_run_says_so_and_changes_nothing(
    manifest: Manifest, bases: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = listen(manifest, bases, tmp_path / "run")
    before = weights(tmp_path / "run")
    loop = replace(LOOP, save_steps=7, workers=1, device="cpu")  # leave the run the same
    with caplog.at_level(logging.INFO, "train.loop.run"):
        again = listen(manifest, bases, tmp_path / "run", replace(STAGE1, loop=loop))
    assert again == first and weights(tmp_path / "run") == before
    assert "is finished; nothing to do" in caplog.text


def test_stage_1_refuses_other_data_recipe_and_bases_and_names_them(
    manifest: Manifest, bases: tuple[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    listen(manifest, bases, output)
    before = weights(output)

    def refused(pattern: str, *arguments) -> None:
        with pytest.raises(UserError, match=pattern) as error:
            listen(*arguments)
        assert "another --output, or --restart" in str(error.value)
        assert weights(output) == before

    fewer = replace(manifest, records=manifest.records[1:])
    refused(r"data\.records\.train=6, this one has 5", fewer, bases, output)
    refused(r"made with data\.texts=", changed(manifest, other_answer, 1), bases, output)
    for name, value in (("learning_rate", 2e-3), ("seed", 2), ("max_steps", 2)):
        recipe = replace(STAGE1, loop=replace(LOOP, **{name: value}))
        was = json.dumps(getattr(LOOP, name))
        refused(
            rf"recipe\.loop\.{name}={was}, this one has {value}", manifest, bases, output, recipe
        )
    refused(r"recipe\.language_model=\"full\"", manifest, bases, output,
            replace(STAGE1, language_model="frozen"))  # fmt: skip
    encoder = load_speech_encoder(bases[0])
    encoder.conv1.weight.data[0, 0, 0] += 0.1
    save_speech_encoder(encoder, tmp_path / "other")
    refused(r"bases\.speech_encoder=", manifest, (str(tmp_path / "other"), bases[1]), output)
    bare = changed(manifest, other_units)  # which stage 1 never sees
    assert listen(bare, bases, output)
    say_anew(manifest, "assistant")
    assert listen(manifest, bases, output)
    say_anew(manifest, "user")
    refused(r"data\.recordings=", manifest, bases, output)


def test_restart_removes_what_the_run_wrote_and_nothing_else(
    manifest: Manifest, bases: tuple[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    listen(manifest, bases, output)
    (output / "checkpoint" / "old").write_text("of the first run")
    recipe = replace(STAGE1, loop=replace(LOOP, seed=2))
    listen(manifest, bases, output, recipe, restart=True)
    assert (output / "notes.txt").read_text() == "mine"
    assert not (output / "checkpoint" / "old").exists()
    assert json.loads((output / "run.json").read_text())["made_of"]["recipe"]["loop"]["seed"] == 2


def test_a_folder_with_things_that_no_run_answers_for_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "precious").write_text("x")
    for restart in (False, True):
        with pytest.raises(UserError, match=r"runs: is there, and no run\.json says"):
            begin_run(
                tmp_path, "lm", {}, product="language_model", also_writes=("runs",), restart=restart
            )
    assert (tmp_path / "runs" / "precious").is_file()


def test_another_commands_folder_is_refused_and_never_emptied(tmp_path: Path) -> None:
    begin_run(tmp_path, "lm", {}, product="language_model")
    (tmp_path / "language_model").mkdir()
    for restart in (False, True):
        with pytest.raises(UserError, match="holds a run of `lm`, this is `encoder`; give another"):
            begin_run(tmp_path, "encoder", {}, product="encoder", restart=restart)
    assert (tmp_path / "language_model").is_dir()


def test_a_cache_that_was_filled_ahead_survives_a_restart(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "values.bin").write_bytes(b"x")
    for restart in (False, True):
        begin_run(tmp_path, "stage1", {}, product="checkpoint", shared=("frames",), restart=restart)
    assert (tmp_path / "frames" / "values.bin").is_file()


def test_other_versions_are_told_and_not_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begin_run(tmp_path, "lm", {"seed": 1}, product="language_model")
    file = tmp_path / "run.json"
    value = json.loads(file.read_text())
    value["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(value))
    begin_run(tmp_path, "lm", {"seed": 1}, product="language_model")
    assert "begun with torch 1.0, goes on with" in caplog.text


def test_a_language_model_of_other_texts_is_refused_and_of_other_recordings_is_the_same(
    manifest: Manifest, tmp_path: Path
) -> None:
    size = SmallLlama(vocabulary=320, width=16, layers=1, heads=2, ffn=16, max_positions=128)
    train_lm(manifest, size=size, loop=LOOP, output=tmp_path / "run")
    say_anew(manifest, "user")
    train_lm(manifest, size=size, loop=LOOP, output=tmp_path / "run")
    with pytest.raises(UserError, match=r"data\.texts="):
        train_lm(changed(manifest, other_answer, 1), size=size, loop=LOOP, output=tmp_path / "run")
    with pytest.raises(UserError, match=r"recipe\.size\.width=16, this one has 32"):
        other = replace(size, width=32)
        train_lm(manifest, size=other, loop=LOOP, output=tmp_path / "run")


def test_units_of_another_kmeans_of_the_same_size_are_refused_by_units_voice_and_stage_2(
    manifest: Manifest, bases: tuple[str, str], tmp_path: Path
) -> None:
    encoder = load_speech_encoder(bases[0])

    def label(output: Path, seed: int) -> Manifest:
        named = {"records.jsonl": manifest}
        make_units(named, encoder, FEATURES, clusters=5, output=output, seed=seed)
        return read_manifest(output / "records.jsonl")

    first = label(tmp_path / "one", 1)
    with pytest.raises(UserError, match=r"recipe\.seed=1, this one has 2"):
        label(tmp_path / "one", 2)
    second = label(tmp_path / "two", 2)

    def speak(folder: Path) -> None:
        training, validation = clips(folder)
        train_vocoder(training, validation, architecture=NSF, loop=LOOP, output=tmp_path / "voice")

    speak(tmp_path / "one")
    with pytest.raises(UserError, match=r"made with data\.units="):
        speak(tmp_path / "two")

    model, processor = join_bases(*bases, STAGE1, seed=1)
    model.save_pretrained(tmp_path / "stage1", processor=processor)
    recipe = replace(STAGE2, units=5)
    train_stage2(tmp_path / "stage1", first, recipe=recipe, output=tmp_path / "stage2")
    with pytest.raises(UserError, match=r"made with data\.units="):
        train_stage2(tmp_path / "stage1", second, recipe=recipe, output=tmp_path / "stage2")


def test_states_are_kept_by_content_and_not_by_name(manifest: Manifest) -> None:
    (item, *_) = examples(manifest, "train")
    renamed = replace(item, id="another name")
    assert state_content(renamed) == state_content(item)
    said = replace(item, turns=(*item.turns[:-1], replace(item.answer, text="Something else.")))
    asked = replace(item.turns[0], text="Something before.")
    assert state_content(said) != state_content(item)
    assert state_content(replace(item, turns=(asked, *item.turns[1:]))) != state_content(item)
    before = state_content(item)
    say_anew(manifest, "user")
    assert state_content(item) != before


def test_the_vocoder_is_measured_on_the_manifests_own_validation(
    manifest: Manifest, bases: tuple[str, str], tmp_path: Path
) -> None:
    make_units(
        {"records.jsonl": manifest}, load_speech_encoder(bases[0]), FEATURES, clusters=5,
        output=tmp_path / "units",
    )  # fmt: skip
    training, validation = clips(tmp_path / "units")
    for split, found in (("train", training), ("validation", validation)):
        answers = {
            manifest.audio_path(turn).resolve()
            for record in manifest.records
            if record.split == split
            for turn in record.turns[1::2]
        }
        assert {clip.path.resolve() for clip in found} == answers


def test_questions_that_were_spoken_anew_are_encoded_anew_and_moved_ones_are_not(
    manifest: Manifest, bases: tuple[str, str], tmp_path: Path
) -> None:
    encoder = load_speech_encoder(bases[0])
    config = FeaturesConfig(variants=0)

    def kept(source: Manifest) -> int:
        extract_features(source, encoder, tmp_path / "frames", config)
        return len((tmp_path / "frames" / "index.jsonl").read_text().splitlines()) - 1

    before = kept(manifest)
    shutil.copytree(manifest.root, tmp_path / "moved")
    assert kept(read_manifest(tmp_path / "moved" / "records.jsonl")) == before
    say_anew(manifest, "user")
    assert kept(manifest) == before + 1


def test_the_nano_refuses_other_data_and_another_seed_in_the_same_folder(
    manifest: Manifest, tmp_path: Path
) -> None:
    for name in set(nano.DATA) - {"records.jsonl"}:
        shutil.copy(manifest.root / "records.jsonl", manifest.root / name)
    nano.begin(tmp_path)
    nano.begin(tmp_path)
    with pytest.raises(UserError, match=r"seed=1, this one has 2"):
        nano.begin(tmp_path, seed=2)
    path = manifest.root / "text.jsonl"
    path.write_text(path.read_text().replace("Paris.", "Rome."))
    with pytest.raises(UserError, match=r"data\.text\.jsonl\.texts="):
        nano.begin(tmp_path)
    (tmp_path / "lm").mkdir()
    nano.begin(tmp_path, seed=2, restart=True)
    assert not (tmp_path / "lm").exists() and path.is_file()
