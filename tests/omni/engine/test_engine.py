"""A conversation on an engine: it answers as a session alone does; it is cancelled, or told."""

import threading

import numpy as np
import pytest
import torch

from omni.audio import AudioError
from omni.engine import Begun, Engine, EngineEvent, EngineFull, Exchange, Recording
from omni.session import AudioDelta, Done, Reply, SessionConfig, TextDelta
from tests.engines import LONG, Heard, ask, spoken, wait
from tests.talk import FIRST, SECOND, SHORT, answer, model, processor, session
from tests.tiny import question

torch.set_num_threads(1)


def test_a_reply_is_begun_said_and_done_as_by_a_session_alone(engine: Engine) -> None:
    expected = answer(session(), FIRST)[1]
    begun, *said, done = ask(engine.open(SHORT), FIRST).events()
    assert isinstance(begun, Begun) and begun.positions > 0 == begun.spoken
    assert isinstance(done, Done) and done.token_ids == expected.token_ids
    assert "".join(e.text for e in said if isinstance(e, TextDelta)) == expected.text
    assert [e.index for e in said if isinstance(e, AudioDelta)] == [*range(len(expected.chunks))]


def test_the_past_that_is_given_is_what_a_session_would_remember(engine: Engine) -> None:
    alone = session()
    first, second = answer(alone, question())[1], answer(alone, SECOND)[1]
    talk, recording = engine.open(SHORT), spoken()
    said = ask(talk, recording).done()
    recording.samples = None  # it has been heard
    past = (Exchange(recording, said.text, tuple(said.token_ids)),)
    begun, *_, done = ask(talk, SECOND, past).events()
    assert isinstance(done, Done) and isinstance(begun, Begun)
    assert (said.token_ids, done.token_ids) == (first.token_ids, second.token_ids)
    assert begun.cached > 0


def test_a_recording_that_was_heard_is_asked_again_without_its_samples(engine: Engine) -> None:
    talk, recording = engine.open(SHORT), spoken()
    said = ask(talk, recording).done()
    ask(talk, FIRST).done()
    recording.samples = None
    begun, *_, done = ask(talk, recording).events()
    assert isinstance(begun, Begun) and begun.spoken > 0
    assert isinstance(done, Done) and done.token_ids == said.token_ids


def test_two_recordings_of_one_length_are_not_taken_for_each_other(engine: Engine) -> None:
    one, other = spoken(seed=1), spoken(seed=2)
    fresh = engine.open(SHORT)
    expected = ask(fresh, SECOND, (Exchange(spoken(seed=2), "no"),)).done()
    talk = engine.open(SHORT)
    ask(talk, one).done()
    done = ask(talk, SECOND, (Exchange(other, "no"),)).done()
    assert done.token_ids == expected.token_ids


def test_the_oldest_is_left_out_where_the_model_has_no_room(engine: Engine) -> None:
    past = tuple(Exchange("word " * 40, "so " * 20) for _ in range(12))
    begun, *_, done = ask(engine.open(SHORT), FIRST, past).events()
    assert isinstance(begun, Begun) and 100 < begun.positions <= 256
    assert isinstance(done, Done) and done.reason in ("end", "length")


def test_what_nobody_can_hear_is_left_out_of_the_past(engine: Engine) -> None:
    silence = Recording(np.zeros(16_000, np.float32))
    expected = answer(session(), FIRST)[1]
    done = ask(engine.open(SHORT), FIRST, (Exchange(silence),)).done()
    assert done.token_ids == expected.token_ids and silence.refused


def test_a_question_that_is_refused_is_told_and_the_next_is_answered(engine: Engine) -> None:
    talk, silence = engine.open(SHORT), Recording(np.zeros(16_000, np.float32))
    (refused,) = ask(talk, silence).events()
    assert isinstance(refused, AudioError) and silence.refused
    assert ask(talk, FIRST).done().token_ids == answer(session(), FIRST)[1].token_ids


def test_what_was_dropped_is_not_part_of_the_question(engine: Engine) -> None:
    talk = engine.open(SHORT)
    talk.push_audio(question(seed=3))
    talk.drop()
    expected = answer(session(), question())[1]
    assert ask(talk, spoken()).done().token_ids == expected.token_ids


def test_a_cancelled_reply_says_nothing_more_and_is_done(engine: Engine) -> None:
    talk, heard = engine.open(LONG), Heard()

    def listen(event: EngineEvent) -> None:
        heard.queue.put(event)
        if isinstance(event, TextDelta):
            talk.cancel()

    talk.run(listen, FIRST)
    *said, done = heard.events()
    assert sum(isinstance(event, TextDelta) for event in said) == 1
    assert isinstance(done, Done) and done.reason == "cancelled"
    assert engine.running <= 1


def test_a_reply_that_is_cancelled_before_it_begins_is_done_too(engine: Engine) -> None:
    talk, hold = engine.open(SHORT), threading.Event()
    engine.post(lambda: wait(hold))
    heard = ask(talk, spoken())
    talk.cancel()
    hold.set()
    assert [type(event) for event in heard.events()] == [Done]
    assert ask(talk, FIRST).done().reason in ("end", "length")


def test_a_newer_question_cancels_the_older(engine: Engine) -> None:
    talk = engine.open(LONG)
    older = ask(talk, FIRST)
    newer = ask(talk, SECOND)
    assert older.done().reason == "cancelled"
    assert newer.done().token_ids == answer(session(LONG), SECOND)[1].token_ids


def test_places_are_counted_and_given_back(engine: Engine) -> None:
    talks = [engine.open(SHORT) for _ in range(3)]
    with pytest.raises(EngineFull, match="3 sessions are open"):
        engine.open(SHORT)
    talks[0].close()
    talks[0].close()
    assert engine.sessions == 2
    engine.open(SHORT)


def test_a_session_that_is_closed_in_the_middle_says_no_more(engine: Engine) -> None:
    talk = engine.open(LONG)
    heard = ask(talk, FIRST)
    talk.close()
    assert heard.done().reason == "cancelled"


def test_settings_hold_from_the_next_reply_on(engine: Engine) -> None:
    talk = engine.open(LONG)
    talk.configure(SessionConfig(max_new_tokens=3, speak=False), system="Be brief.")
    begun, *said, done = ask(talk, FIRST).events()
    assert isinstance(done, Done) and len(done.token_ids) <= 3
    assert not any(isinstance(event, AudioDelta) for event in said)
    plain = ask(engine.open(SHORT), FIRST).events()[0]
    assert isinstance(begun, Begun) and isinstance(plain, Begun)
    assert begun.positions > plain.positions


def test_a_closed_engine_opens_nothing() -> None:
    engine = Engine(model(), processor(), max_sessions=1)
    assert engine.alive()
    engine.close()
    assert not engine.alive()
    with pytest.raises(RuntimeError, match="closed"):
        engine.open()
    with pytest.raises(ValueError, match="max_sessions=0"):
        Engine(model(), processor(), max_sessions=0)


def test_what_is_said_to_be_left_to_play_reaches_the_reply_that_runs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, float | None]] = []
    monkeypatch.setattr(
        Reply, "tell_buffered", lambda reply, left, received=None: told.append((left, received))
    )
    talk, heard = engine.open(SHORT), Heard()
    talk.tell_buffered(1.0, 0.5)  # nothing runs, and nobody minds

    def deliver(event: EngineEvent) -> None:
        if isinstance(event, AudioDelta):
            talk.tell_buffered(2.0, event.index)
        heard.queue.put(event)

    talk.run(deliver, FIRST)
    chunks = [event for event in heard.events() if isinstance(event, AudioDelta)]
    assert told == [(2.0, index) for index in range(len(chunks))] != []
