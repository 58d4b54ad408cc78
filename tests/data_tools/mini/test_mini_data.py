"""The mini's data set: its kinds and splits, going on, later answers, and the command."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from data_tools.check import check_manifest
from data_tools.check.check import CheckConfig
from data_tools.cli import app
from data_tools.manifest.record import Manifest, Record, read_manifest
from data_tools.mini.asks import ASK_TO_REPEAT, KINDS
from data_tools.mini.data import Summary, build_mini
from data_tools.speech.speak import SAMPLE_RATE
from data_tools.speech.voices import Voice
from data_tools.steps import LeftOut
from data_tools.talk import HELD_OUT, asking_voices
from data_tools.writers.base import Reply, Request, Writer

VOICE_TESTS = {f"test_{name}" for name in HELD_OUT}
EFFECT_TESTS = {"test_telephone", "test_room", "test_noise"}
NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
ASKED = {f"what is the colour of number {word} in the book": [f"green {word}"] for word in NUMBERS}


class Tones:
    """Speaks a tone that depends on text and voice, as an engine does; may fail part of the way."""

    def __init__(self, clips_until_failure: int = 10_000) -> None:
        self.left = clips_until_failure

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        if self.left == 0:
            raise ValueError("the engine fell over")
        self.left -= 1
        number = int.from_bytes(hashlib.sha256(f"{voice} {text}".encode()).digest()[:4])
        # As long as speech: `check` listens to it.
        samples = np.arange(1600 * (2 + len(text)) // 2, dtype=np.float32)
        return 0.3 * np.sin(samples * (0.1 + number % 97 / 100)).astype(np.float32)

    def versions(self) -> dict[str, str]:
        return {"tones": "1"}

    def close(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Knowing:
    """A writer that knows the colours of even numbers of the book, and talks about all else."""

    batch_size: int = 4
    workers: ClassVar[int] = 1
    device: ClassVar[str] = "cpu"
    label: str = "knowing"

    def settings(self) -> dict[str, Any]:
        return {"writer": "knowing"}

    def build(self) -> Writer:
        return KnowingWriter()


class KnowingWriter:
    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        for index, request in enumerate(requests):
            text = request.messages[-1].content
            if "number two" in text:
                yield index, "It is **green two**. It is nice. It is old."
            elif "in the book" in text:
                yield index, "It is red."
            elif "recipe" in text:
                yield index, LeftOut("was cut off")
            else:
                yield index, "Take your time with it."

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    rows = [{"question": question, "answer": gold} for question, gold in ASKED.items()]
    (folder / "nq-open-dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def build(folder: Path, texts: Path | None, **options: Any) -> Summary:
    settings = {"questions": 400, "workers": 2, "make_tts": Tones, "texts": texts} | options
    return build_mini(folder, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "data"
    build(folder, texts)
    return folder


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder / "records.jsonl")


def of(manifest: Manifest, split: str) -> list[Record]:
    return [record for record in manifest.records if record.split == split]


def kinds(records: Sequence[Record]) -> Counter[str]:
    return Counter(record.provenance["kind"] for record in records)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


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


def test_a_killed_run_goes_on_and_ends_with_the_same_files(
    tmp_path: Path, folder: Path, texts: Path
) -> None:
    with pytest.raises(ValueError, match="fell over"):
        build(tmp_path / "data", texts, workers=1, make_tts=lambda: Tones(60))
    assert not (tmp_path / "data" / "records.jsonl").exists()
    summary = build(tmp_path / "data", texts)
    assert summary.made_clips == summary.clips - 60
    assert contents(tmp_path / "data") == contents(folder)


def test_a_later_run_needs_no_texts_and_refuses_other_wishes(folder: Path, texts: Path) -> None:
    assert build(folder, None).made_clips == 0
    with pytest.raises(ValueError, match="begun with questions=400"):
        build(folder, texts, questions=401)
    with pytest.raises(ValueError, match="begun with"):
        build(folder, texts, seed=1)


def test_answers_come_later_and_keep_the_recordings_of_the_questions(
    tmp_path: Path, texts: Path
) -> None:
    data = tmp_path / "data"
    before = build(data, texts)
    clips = {path for path in contents(data) if path.startswith("audio/questions")}
    after = build(data, texts, writer=Knowing())
    assert clips == {path for path in contents(data) if path.startswith("audio/questions")}
    assert 0 < after.unanswered < before.unanswered
    said = {
        record.turns[0].text: record
        for record in read_manifest(data / "records.jsonl").records
        if record.provenance["kind"] == "open"
    }
    known = said["What is the colour of number two in the book?"]
    assert known.turns[1].text == "It is green two. It is nice."
    assert known.provenance["answered_by"] == "a language model"
    others = [record.turns[1].text for text, record in said.items() if "the book" in text]
    assert "It is red." not in others and any("not" in text for text in others)
    assert any(record.turns[1].text == "Take your time with it." for record in said.values())
    # Asked again it has all it needs, and without the writer the answers stay.
    assert build(data, texts, writer=Knowing()).made_clips == 0
    assert build(data, texts).unanswered == after.unanswered


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


def test_impossible_wishes_are_refused_before_anything_is_written(
    tmp_path: Path, texts: Path
) -> None:
    with pytest.raises(ValueError, match="questions=0"):
        build(tmp_path / "data", texts, questions=0)
    with pytest.raises(ValueError, match=f"some of {', '.join(KINDS)}"):
        build(tmp_path / "data", texts, kinds=("songs",))
    assert not (tmp_path / "data").exists()


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
