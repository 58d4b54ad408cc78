"""The mini's data set: its kinds, splits and voices, and the command."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from typer.testing import CliRunner

from data_tools.check import check_manifest
from data_tools.check.check import CheckConfig
from data_tools.cli import app
from data_tools.manifest.record import Manifest, Record, read_manifest
from data_tools.mini.asks import ASK_TO_REPEAT
from data_tools.mini.data import build_mini
from data_tools.speech.speak import SAMPLE_RATE
from data_tools.talk import HELD_OUT, asking_voices
from tests.mini_data import Tones

VOICE_TESTS = {f"test_{name}" for name in HELD_OUT}
EFFECT_TESTS = {"test_telephone", "test_room", "test_noise"}


def of(manifest: Manifest, split: str) -> list[Record]:
    return [record for record in manifest.records if record.split == split]


def kinds(records: Sequence[Record]) -> Counter[str]:
    return Counter(record.provenance["kind"] for record in records)


def test_training_has_every_kind_at_about_its_share(manifest: Manifest) -> None:
    train = of(manifest, "train")
    spoken = sum(turn.role == "user" and bool(turn.speech) for r in train for turn in r.turns)
    assert 400 <= spoken <= 410
    found = kinds(train)
    assert 0.20 < found["domain"] / len(train) < 0.30
    assert 0.05 < found["refuse"] / len(train) < 0.12
    assert found["everyday"] > 40
    # What no language model has answered is to be repeated: a half, by and by less.
    assert 0.45 < found["repeat"] / len(train) < 0.55


def test_there_is_a_test_for_every_held_out_voice_every_effect_and_refusals(
    manifest: Manifest,
) -> None:
    splits = {record.split for record in manifest.records}
    assert (
        splits == {"train", "validation", "test_seen", "test_refuse"} | VOICE_TESTS | EFFECT_TESTS
    )
    for name, voice in HELD_OUT.items():
        asked = [t.voice for r in of(manifest, f"test_{name}") for t in r.turns if t.role == "user"]
        assert {heard for heard in asked if heard} == {str(voice)}


def test_no_held_out_voice_is_drawn_for_training() -> None:
    drawn = asking_voices()
    speakers = {(v.engine, v.name) for found in drawn.training.values() for v in found}
    assert not speakers & {(voice.engine, voice.name) for voice in HELD_OUT.values()}
    variants = {dict(v.parameters).get("variant") for v in drawn.training["espeak"]}
    assert dict(HELD_OUT["midlands"].parameters)["variant"] not in variants
    rng = np.random.default_rng(0)
    asking = {drawn.draw(rng).engine for _ in range(50)}
    assert asking == {"flite", "festival", "espeak"}


def test_the_voice_tests_ask_the_same(manifest: Manifest) -> None:
    def asked(split: str) -> list[list[str]]:
        return [[turn.text for turn in record.turns] for record in of(manifest, split)]

    assert len(asked("test_seen")) > 3
    assert all(asked(split) == asked("test_seen") for split in VOICE_TESTS | EFFECT_TESTS)


def test_an_effect_changes_the_same_recording(folder: Path, manifest: Manifest) -> None:
    pairs = zip(of(manifest, "test_seen"), of(manifest, "test_telephone"), strict=True)
    for clean, heard in pairs:
        first, second = clean.turns[-2], heard.turns[-2]
        assert first.voice == second.voice and heard.provenance["effect"] == "telephone"
        clear, _ = soundfile.read(manifest.audio_path(first))
        over_wire, _ = soundfile.read(manifest.audio_path(second))
        assert len(clear) == len(over_wire) and not np.allclose(clear, over_wire, atol=1e-3)
        spectrum = np.abs(np.fft.rfft(over_wire))
        high = np.fft.rfftfreq(len(over_wire), 1 / SAMPLE_RATE) > 4500
        assert spectrum[high].max() < 0.05 * spectrum.max()


def test_no_words_of_training_are_asked_in_another_split(manifest: Manifest) -> None:
    def asked(record: Record) -> tuple[str, ...]:
        users = [turn.text.casefold() for turn in record.turns if turn.role == "user"]
        return tuple(text for text in users if text and text != ASK_TO_REPEAT.casefold())

    train = {asked(record) for record in of(manifest, "train")} - {()}
    for record in manifest.records:
        if record.split != "train":
            assert asked(record) not in train, asked(record)


def test_templates_are_held_out_whole_but_for_repeats(manifest: Manifest) -> None:
    train = {r.provenance["template"] for r in of(manifest, "train") if r.provenance["template"]}
    for record in of(manifest, "test_seen") + of(manifest, "validation"):
        if record.provenance["kind"] in ("domain", "everyday"):
            assert record.provenance["template"] not in train


def test_sounds_and_languages_of_the_test_are_partly_unknown_to_training(
    manifest: Manifest,
) -> None:
    refused = of(manifest, "test_refuse")
    assert {turn.text for record in refused for turn in record.turns[1:]} == {
        "I did not catch that."
    }
    skills = {record.provenance["skill"] for record in refused}
    assert skills == {"sound", "language"}
    heard = {t.voice for r in of(manifest, "train") for t in r.turns if t.role == "user"}
    assert not {record.turns[0].voice for record in refused if not record.turns[0].text} & heard


def test_words_to_repeat_are_asked_for_in_writing_or_in_one_breath(manifest: Manifest) -> None:
    repeats = [r for r in manifest.records if r.provenance["kind"] == "repeat"]
    written = [record for record in repeats if record.provenance.get("written_turns") == "1"]
    for record in written:
        wish, ready, said, again = record.turns
        assert (wish.text, wish.speech, ready.text) == (ASK_TO_REPEAT, None, "Go ahead.")
        assert said.speech and said.text == again.text
    aloud = [record for record in repeats if record not in written]
    assert aloud and {record.split for record in aloud} == {"train"}
    for record in aloud:
        said, again = record.turns
        assert said.text.endswith(again.text) and len(said.text) > len(again.text)


def test_the_set_is_fit_by_the_projects_own_check(manifest: Manifest) -> None:
    found = check_manifest(manifest, CheckConfig())
    assert [result.rule for result in found.results if not result.passed] == []


def test_the_nano_can_take_its_kinds_alone_and_needs_no_texts(tmp_path: Path) -> None:
    build_mini(
        tmp_path / "data",
        questions=60,
        kinds=("domain", "refuse"),
        called="Tiny",
        make_tts=Tones,
        workers=1,
    )
    said = (tmp_path / "data" / "text.jsonl").read_text()
    assert "My name is Tiny." in said and "Mini" not in said
    records = read_manifest(tmp_path / "data" / "records.jsonl").records
    assert set(kinds(records)) == {"domain", "refuse"}
    reading = read_manifest(tmp_path / "data" / "reading.jsonl").records
    assert reading and all(record.turns[1].speech for record in reading)


def test_the_installed_engines_speak_a_small_set_by_the_command(
    tmp_path: Path, texts: Path
) -> None:
    arguments = ["mini", str(tmp_path / "data"), "--questions", "24", "--texts", str(texts)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "test_midlands" in result.output and "are to be repeated" in result.output
    found = read_manifest(tmp_path / "data" / "records.jsonl")
    for record in found.records:
        for turn in record.turns:
            if turn.speech:
                info = soundfile.info(found.audio_path(turn))
                assert (info.samplerate, info.channels) == (SAMPLE_RATE, 1)
                assert 0.2 < info.duration < 30
    engines = json.loads((tmp_path / "data" / "state.json").read_text())["engines"]
    assert set(engines) == {"flite", "espeak", "festival", "sound"}
