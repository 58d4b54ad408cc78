"""Many conversations on one thread: each answers as if alone, and what befalls one befalls it."""

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from queue import Queue

import numpy as np
import pytest
import torch

from omni.audio import AudioError
from omni.engine import Begun, Engine, EngineEvent, EngineFull, EngineSession, Exchange, Recording
from omni.engine.urgency import StepCosts
from omni.session import AudioDelta, Done, Reply, SessionConfig, TextDelta
from tests.talk import SHORT, answer, model, processor, session
from tests.tiny import question

torch.set_num_threads(1)
FIRST, SECOND = "What is two and two?", "How warm is it?"
LONG = SessionConfig(max_new_tokens=60)
WRITTEN = replace(SHORT, speak=False)  # nobody's player can run dry: all step together
WAIT_S = 60


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(model(), processor(), max_sessions=3) as engine:
        yield engine


class Heard:
    """What an engine delivers, taken up to the end of the reply."""

    def __init__(self) -> None:
        self.queue: Queue[EngineEvent] = Queue()

    def next(self) -> EngineEvent:
        return self.queue.get(timeout=WAIT_S)

    def events(self) -> list[EngineEvent]:
        found = [self.next()]
        while not isinstance(found[-1], (Done, Exception)):
            found.append(self.next())
        return found

    def done(self) -> Done:
        last = self.events()[-1]
        assert isinstance(last, Done), last
        return last


def ask(talk: EngineSession, asked: str | Recording, past: tuple[Exchange, ...] = ()) -> Heard:
    heard = Heard()
    if isinstance(asked, Recording) and asked.samples is not None:
        talk.push_audio(asked.samples)
    talk.run(heard.queue.put, asked, past)
    return heard


def wait(hold: threading.Event) -> None:
    assert hold.wait(WAIT_S)


def spoken(seed: int = 0) -> Recording:
    return Recording(question(seed=seed))


def test_a_reply_is_begun_said_and_done_as_by_a_session_alone(engine: Engine) -> None:
    expected = answer(session(), FIRST)[1]
    begun, *said, done = ask(engine.open(SHORT), FIRST).events()
    assert isinstance(begun, Begun) and begun.positions > 0 == begun.spoken
    assert isinstance(done, Done) and done.token_ids == expected.token_ids
    assert "".join(e.text for e in said if isinstance(e, TextDelta)) == expected.text
    assert [e.index for e in said if isinstance(e, AudioDelta)] == [*range(len(expected.chunks))]


def test_sessions_that_run_together_answer_as_each_alone(engine: Engine) -> None:
    asked = [FIRST, SECOND, spoken()]
    expected = [answer(session(), a if isinstance(a, str) else question())[1] for a in asked]
    heard = [ask(engine.open(SHORT), a) for a in asked]
    assert [h.done().token_ids for h in heard] == [e.token_ids for e in expected]


def test_replies_go_forward_by_turns(engine: Engine) -> None:
    order: list[str] = []
    ends = [threading.Event(), threading.Event()]

    def listen(name: str, end: threading.Event, event: EngineEvent) -> None:
        order.extend([name] if isinstance(event, TextDelta) else [])
        if isinstance(event, Done):
            end.set()

    talks = [engine.open(WRITTEN), engine.open(WRITTEN)]
    hold = threading.Event()
    engine.post(lambda: wait(hold))  # both begin before the first step
    for name, talk, end in zip("ab", talks, ends, strict=True):
        talk.run(lambda event, name=name, end=end: listen(name, end, event), FIRST)
    hold.set()
    assert all(end.wait(WAIT_S) for end in ends)
    assert order == [*"ab"] * (len(order) // 2)


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


def test_a_paused_reply_waits_while_others_go_on(engine: Engine) -> None:
    talk, other, heard = engine.open(LONG), engine.open(LONG), Heard()

    def listen(event: EngineEvent) -> None:
        heard.queue.put(event)
        if isinstance(event, Begun):
            talk.pause()

    talk.run(listen, FIRST)
    assert isinstance(heard.next(), Begun)
    ask(other, SECOND).done()
    assert heard.queue.empty()
    talk.resume()
    assert heard.done().token_ids == answer(session(LONG), FIRST)[1].token_ids


def test_a_failure_is_told_to_its_own_reply_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = model().language_model.forward
    expected = answer(session(), SECOND)[1]
    calls: list[int] = []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError("no more")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model().language_model, "forward", failing)
    failed, other = ask(engine.open(SHORT), FIRST), ask(engine.open(SHORT), SECOND)
    assert isinstance(failed.events()[-1], MemoryError)
    assert other.done().token_ids == expected.token_ids


def test_a_listener_that_fails_hurts_no_other(engine: Engine) -> None:
    def broken(event: EngineEvent) -> None:
        raise OSError("gone")

    talk = engine.open(LONG)
    talk.run(broken, FIRST)
    assert ask(engine.open(SHORT), SECOND).done().reason in ("end", "length")


def test_all_that_run_go_forward_in_one_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, sizes = model().language_model.forward, list[int]()

    def counted(*args, **kwargs):
        batch, length, _ = kwargs["inputs_embeds"].shape
        sizes.extend([batch] if length == 1 else [])
        return forward(*args, **kwargs)

    monkeypatch.setattr(model().language_model, "forward", counted)
    with Engine(model(), processor(), max_sessions=16) as many:
        hold = threading.Event()
        many.post(lambda: wait(hold))  # all begin before the first step
        asked = [f"{FIRST} {number}" for number in range(16)]
        heard = [ask(many.open(WRITTEN), text) for text in asked]
        hold.set()
        said = [one.done().token_ids for one in heard]
        assert many.one_by_one is None
    longest = max(len(ids) for ids in said)
    assert max(sizes) == 16 and len(sizes) <= longest + 2
    monkeypatch.undo()
    assert said == [answer(session(), text)[1].token_ids for text in asked]


@pytest.mark.parametrize("seed", range(3))
def test_whoever_pauses_cancels_or_goes_changes_nothing_for_the_others(seed: int) -> None:
    rng = random.Random(seed)
    asked = [f"{FIRST} {number}" for number in range(6)]
    expected = {text: answer(session(LONG), text)[1].token_ids for text in asked}
    with Engine(model(), processor(), max_sessions=6) as many:
        talks, ends = [many.open(LONG) for _ in asked], [Heard() for _ in asked]

        def listen(place: int, event: EngineEvent) -> None:
            if isinstance(event, (Done, Exception)):
                ends[place].queue.put(event)
            other = talks[rng.randrange(6)]
            rng.choice([other.pause, other.resume, other.resume, lambda: None])()
            if place == 5 and rng.random() < 0.1:
                talks[5].close()

        for place, (talk, text) in enumerate(zip(talks, asked, strict=True)):
            talk.run(lambda event, place=place: listen(place, event), text)
        left = {*range(6)}
        while left:
            for talk in talks:  # whoever paused goes on at last
                talk.resume()
            for place in [*left]:
                if not ends[place].queue.empty():
                    done, text = ends[place].done(), asked[place]
                    left.discard(place)
                    if done.reason == "cancelled":
                        assert place == 5
                    else:
                        assert done.token_ids == expected[text]
            threading.Event().wait(0.01)


@pytest.mark.parametrize("most", [1, 2])
def test_replies_that_take_turns_say_what_they_say_together(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(StepCosts, "most", lambda _: most)
    asked = [f"{FIRST} {number}" for number in range(5)]
    expected = [answer(session(), text)[1] for text in asked]
    with Engine(model(), processor(), max_sessions=5) as many:
        heard = [ask(many.open(SHORT), text) for text in asked]
        said = [one.done() for one in heard]
    assert [done.token_ids for done in said] == [done.token_ids for done in expected]
    assert [done.units for done in said] == [done.units for done in expected]


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
