"""Turns are cut out of sound: where a voice begins, and where it has been silent long enough."""

import numpy as np
import pytest
import torch

from omni.audio import SAMPLE_RATE, load_audio
from omni.loading import NANO
from serve.realtime.activity import FRAME, Started, Stopped, TurnDetector, TurnRules, silero
from serve.realtime.session_object import SemanticVad, ServerVad
from tests.realtime import loud, silence
from tests.tiny import question

RULES = TurnRules.of(ServerVad())


def turns(sound: np.ndarray, piece: int, rules: TurnRules = RULES) -> list[Started | Stopped]:
    detector = TurnDetector(rules, loud)
    found = []
    for start in range(0, len(sound), piece):
        found += detector.hear(sound[start : start + piece])
    return found


SPOKEN = np.concatenate([silence(1), question(0.8), silence(1), question(0.5), silence(1)])


def test_each_stretch_of_voice_is_a_turn() -> None:
    first, end, second, last = turns(SPOKEN, FRAME)
    assert isinstance(first, Started) and isinstance(second, Started)
    assert isinstance(end, Stopped) and isinstance(last, Stopped)
    within = 2 * FRAME
    assert first.at == pytest.approx(SAMPLE_RATE, abs=within)
    assert end.at == pytest.approx(2.3 * SAMPLE_RATE, abs=within)
    assert second.at == pytest.approx(2.8 * SAMPLE_RATE, abs=within)


@pytest.mark.parametrize("piece", [100, FRAME, 5_000, len(SPOKEN)])
def test_the_turns_are_the_same_however_the_sound_is_cut(piece: int) -> None:
    assert turns(SPOKEN, piece) == turns(SPOKEN, FRAME)


def test_a_click_is_no_turn() -> None:
    click = silence(1)
    click[5 * FRAME] = 0.9
    assert turns(click, FRAME) == []


def test_a_pause_shorter_than_the_rule_does_not_end_a_turn() -> None:
    sound = np.concatenate([question(0.5), silence(0.3), question(0.5), silence(1)])
    assert [type(change) for change in turns(sound, FRAME)] == [Started, Stopped]
    hasty = TurnRules.of(ServerVad(silence_duration_ms=200))
    assert len(turns(sound, FRAME, hasty)) == 4


def test_eagerness_is_a_shorter_silence() -> None:
    silences = [
        TurnRules.of(SemanticVad(eagerness=eager)).silence for eager in ("high", "auto", "low")
    ]
    assert silences == sorted(silences) and len(set(silences)) == 3


def test_a_turn_that_another_ends_begins_anew_while_the_voice_goes_on() -> None:
    detector = TurnDetector(RULES, loud)
    assert len(detector.hear(question(1.0))) == 1
    detector.end_turn()
    assert [type(change) for change in detector.hear(question(1.0))] == [Started]


def test_silero_hears_a_question_and_not_the_silence_around_it() -> None:
    threads = torch.get_num_threads()
    asked = load_audio(NANO.parent / "questions" / "1-capital-of-france.wav")
    sound = np.concatenate([silence(1), asked, silence(1)])
    detectors = [TurnDetector(RULES, silero()) for _ in range(2)]
    found = []
    for start in range(0, len(sound), FRAME):  # two at once: neither hears the other
        found += detectors[0].hear(sound[start : start + FRAME])
        detectors[1].hear(question(0.032))
    began, ended = found
    assert SAMPLE_RATE * 0.9 < began.at < SAMPLE_RATE * 1.5
    assert len(asked) < ended.at < len(sound)
    assert torch.get_num_threads() == threads
