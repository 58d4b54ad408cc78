"""The embedded default, as it ships: it hears, answers, and says the same in any chunks."""

from pathlib import Path

import numpy as np
import pytest
import torch

import omni
from omni.audio import load_audio
from omni.metrics import normalise
from omni.session.config import SessionConfig

QUESTIONS = Path(omni.__file__).parent / "nano" / "questions"
# Of the held-out questions, picked before this edition was trained. flite's rms asks 3, 4 and 6 and
# was never heard in training; the other voices were.
ANSWERS = {
    "1-capital-of-france": "The capital of France is Paris.",
    "2-opposite-of-heavy": "The opposite of heavy is light.",
    "3-elephant": "An elephant trumpets.",
    "4-three-and-eight": "Three plus eight is eleven.",
    "5-volcano": "A volcano is a mountain that throws out hot rock.",
    "6-joke-about-trees": "How do trees use computers? They simply log in.",
    "7-after-february": "March comes after February.",
}
MISHEARD = {"3-elephant": "an owl, as this edition hears rms"}
LIMIT_MB = 40


@pytest.fixture(scope="module")
def nano():
    torch.set_num_threads(1)
    return omni.load()


def answer(nano, question, schedule: str = "auto", right: int | None = None, session=None):
    config = SessionConfig(schedule=omni.parse_schedule(schedule), right_context_frames=right)
    session = session or omni.SpeechSession(*nano, config)
    *events, done = session.ask(question)
    chunks = [event.waveform for event in events if isinstance(event, omni.AudioDelta)]
    return done, np.concatenate(chunks)


def difference(waveform, sound) -> float:
    """RMS of the difference, relative to the sound's."""
    assert waveform.shape == sound.shape
    return float(np.sqrt(np.mean((waveform - sound) ** 2) / np.mean(sound**2)))


def test_every_bundled_recording_has_its_answer_here():
    assert {path.stem for path in QUESTIONS.glob("*.wav")} == set(ANSWERS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=MISHEARD[name]))
        if name in MISHEARD
        else name
        for name in ANSWERS
    ],
)
def test_a_spoken_question_is_answered_in_text_and_in_speech(nano, name):
    done, waveform = answer(nano, load_audio(QUESTIONS / f"{name}.wav"))
    assert normalise(done.text, "basic") == normalise(ANSWERS[name], "basic")
    words = len(ANSWERS[name].split())
    assert 0.15 * words < len(waveform) / 16_000 < 0.8 * words
    assert 0.02 < np.sqrt(np.mean(waveform**2)) < 0.5


def test_a_written_question_and_one_that_needs_the_turn_before_are_answered(nano):
    session = omni.SpeechSession(*nano)
    first, _ = answer(nano, "Where in the world is Greece?", session=session)
    second, _ = answer(nano, "How about Spain?", session=session)
    assert (first.text, second.text) == ("Greece is in Europe.", "Spain is in Europe.")


def test_the_chunk_size_changes_when_sound_comes_and_not_what_is_said(nano):
    question = load_audio(QUESTIONS / "1-capital-of-france.wav")
    whole, sound = answer(nano, question, "all")
    replies = {schedule: answer(nano, question, schedule) for schedule in ("10", "40")}
    for done, waveform in replies.values():
        assert (done.text, done.units) == (whole.text, whole.units)
        assert difference(waveform, sound) < 1e-4
    assert len(replies["10"][0].chunks) > len(replies["40"][0].chunks) > 1


def test_the_less_right_context_the_further_from_the_whole(nano):
    question = load_audio(QUESTIONS / "1-capital-of-france.wav")
    _, sound = answer(nano, question, "all")
    errors = [difference(answer(nano, question, "10", right)[1], sound) for right in (4, 2, 0)]
    assert errors[0] < 1e-4 < errors[1] < errors[2]


def test_it_is_small_enough_to_be_embedded():
    size = sum(path.stat().st_size for path in QUESTIONS.parent.rglob("*") if path.is_file())
    assert size < LIMIT_MB * 1e6
