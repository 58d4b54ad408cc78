"""Piper's voices: what can be told without one of its models, with the real espeak-ng."""

import json
from pathlib import Path

import pytest

from data_tools.speech.piper import PiperEngine, phoneme_ids, piper_voices
from data_tools.speech.voices import Voice
from omni.files.errors import UserError

KNOWN = {"_": [0], "^": [1], "$": [2], "a": [7], "̃": [8, 9]}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PiperEngine:
    """Of a model that is never run: onnxruntime is asked for when it speaks."""
    monkeypatch.setattr("data_tools.speech.piper.need", lambda *_: None)
    (tmp_path / "en_US-ann-low.onnx").touch()
    config = {"espeak": {"voice": "en-us"}, "phoneme_id_map": KNOWN}
    (tmp_path / "en_US-ann-low.onnx.json").write_text(json.dumps(config))
    return PiperEngine(tmp_path)


def test_ids_begin_and_end_and_have_padding_behind_every_sound() -> None:
    assert phoneme_ids("aa", KNOWN) == [1, 0, 7, 0, 7, 0, 2]


def test_a_sound_with_a_mark_is_taken_apart_and_an_unknown_one_left_out() -> None:
    assert phoneme_ids("ã?", KNOWN) == [1, 0, 7, 0, 8, 9, 0, 2]


def test_marks_stand_between_the_clauses_that_espeak_pronounces(engine: PiperEngine) -> None:
    spoken = engine.phonemes("Hello, how are you?", "en-us")
    first, second = spoken.split(", ")
    assert first.startswith("həl") and "aʊ" in second and second.endswith("?")


def test_another_language_is_pronounced_as_such(engine: PiperEngine) -> None:
    assert engine.phonemes("Wasser", "de") != engine.phonemes("Wasser", "en-us")


def test_voices_are_named_as_their_files(engine: PiperEngine) -> None:
    assert engine.versions() == {"piper": "en_US-ann-low"}
    with pytest.raises(ValueError, match="holds en_US-ann-low"):
        engine.speak("Hello", Voice("piper", "bob"))


def test_a_folder_without_voices_or_with_half_of_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no NAME\.onnx"):
        piper_voices(tmp_path)
    (tmp_path / "joe.onnx").touch()
    with pytest.raises(UserError, match=r"no joe\.onnx\.json"):
        piper_voices(tmp_path)
