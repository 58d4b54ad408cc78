"""Making the nano's data set: falls, workers, seeds, and the wishes that are refused."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from data_tools.manifest.record import Manifest, read_manifest
from data_tools.nano.asks import KNOWN, WIDE
from data_tools.nano.data import build_nano
from data_tools.speech.voices import Voice
from data_tools.talk import HELD_OUT, REFUSE, Ask, engines
from tests.nano_data import ASKS, Tones, ask, build, refused, split


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("clips_until_failure", [0, 1, 7])
def test_a_set_that_fell_over_and_was_begun_again_equals_one_that_was_not(
    tmp_path: Path, folder: Path, clips_until_failure: int
) -> None:
    failing = [Tones(clips_until_failure=clips_until_failure) for _ in range(3)]
    waiting = iter(failing)
    with pytest.raises(ValueError, match="the engine fell over"):
        build(tmp_path, make_tts=lambda: next(waiting))
    assert not (tmp_path / "records.jsonl").exists()
    assert all(tts.closed for tts in failing)
    kept = len(list(tmp_path.rglob("*.wav")))
    summary = build(tmp_path)
    assert summary.made_clips == summary.clips - kept
    assert contents(tmp_path) == contents(folder)


def test_half_a_clip_left_by_a_kill_is_made_again(tmp_path: Path, folder: Path) -> None:
    build(tmp_path)
    clip = next(tmp_path.rglob("*.wav"))
    clip.with_name(f".{clip.name}.part").write_bytes(clip.read_bytes()[:100])
    clip.unlink()
    assert build(tmp_path).made_clips == 1
    assert contents(tmp_path) == contents(folder)


@pytest.mark.parametrize("workers", [1, 5])
def test_the_number_of_workers_changes_nothing(tmp_path: Path, folder: Path, workers: int) -> None:
    build(tmp_path, workers=workers)
    assert contents(tmp_path) == contents(folder)


def test_another_seed_chooses_other_voices(tmp_path: Path, manifest: Manifest) -> None:
    build(tmp_path, seed=1)
    others = split(read_manifest(tmp_path / "records.jsonl"), "train")
    voices = {record.id: record.turns[0].voice for record in split(manifest, "train")}
    assert any(voices.get(record.id) != record.turns[0].voice for record in others)


def test_more_questions_keep_the_voices_of_the_first_ones(
    tmp_path: Path, manifest: Manifest
) -> None:
    build(tmp_path, questions=40)
    larger = {r.id: r for r in read_manifest(tmp_path / "records.jsonl").records}
    assert all(larger[record.id] == record for record in manifest.records)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"questions": 21}, "questions=20, not 21"),
        ({"seed": 3}, "seed=0, not 3"),
        ({"make_tts": lambda: Tones(version="2")}, "engines="),
    ],
)
def test_going_on_with_other_options_is_refused_by_name(
    folder: Path, options: dict, name: str
) -> None:
    before = contents(folder)
    with pytest.raises(ValueError, match=name):
        build(folder, **options)
    assert contents(folder) == before


def test_going_on_with_other_asks_is_refused_in_words(folder: Path) -> None:
    with pytest.raises(ValueError, match="other words, or other voices"):
        build_nano(folder, ASKS | {WIDE: []}, questions=20, make_tts=Tones)


@pytest.mark.parametrize(
    ("asks", "options", "rule"),
    [
        (ASKS, {"questions": 0}, "questions=0"),
        (ASKS, {"workers": 0}, "workers=0"),
        ({}, {}, "at least one"),
        ({KNOWN: [ask(0, "test")]}, {}, "'train'"),
        ({KNOWN: [ask(0, "train"), ask(0, "dev")]}, {}, "'dev'"),
        ({KNOWN: [ask(0, "train"), ask(0, "train")]}, {}, "unique"),
    ],
)
def test_impossible_wishes_are_refused_before_anything_is_written(
    tmp_path: Path, asks: dict[str, list[Ask]], options: dict, rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        build_nano(tmp_path / "data", asks, make_tts=Tones, **options)
    assert not (tmp_path / "data").exists()


def test_workers_speak_side_by_side(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=10)

    class Meeting(Tones):
        met = False

        def speak(self, text: str, voice: Voice) -> np.ndarray:
            if not self.met:
                together.wait()  # passes only if the other worker is speaking too
                self.met = True
            return super().speak(text, voice)

    build(tmp_path, make_tts=Meeting)
    assert (tmp_path / "records.jsonl").exists()


def test_the_installed_engines_speak_a_small_set(tmp_path: Path) -> None:
    few = {
        KNOWN: [*(ask(number, "train") for number in range(3)), ask(9, "test")],
        REFUSE: [refused(3, "test")],
    }
    summary = build_nano(tmp_path, few, questions=6, workers=2, make_tts=engines)
    tests = {"test_known": 1, "test_refuse": 1} | {f"test_known_{name}": 1 for name in HELD_OUT}
    assert summary.records == {"train": 6} | tests
    assert 0.5 < 3600 * summary.hours["train"] / 6 < 5.0
    assert set(json.loads((tmp_path / "state.json").read_text())["engines"]) == {
        "flite",
        "espeak",
        "festival",
        "sound",
    }
