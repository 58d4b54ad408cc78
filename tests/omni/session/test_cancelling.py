"""A cancel counts at once, whatever is going on, and what was said before it stays said."""

from functools import cache
from itertools import count

import pytest
import torch

from omni.session.events import AudioDelta, Done, Event, TextDelta
from tests.talk import (
    CHOPPED,
    FIRST,
    SECOND,
    alone,
    answer,
    end_of,
    fresh_second_turn,
    model,
    session,
    texts,
)
from tests.tiny import question

torch.set_num_threads(1)


@cache
def uncut() -> tuple[Event, ...]:
    return tuple(session(CHOPPED).ask(FIRST))


def test_what_is_cut_below_has_chunks_before_and_after_its_last_token() -> None:
    kinds = [type(event) for event in uncut()]
    last_text = len(kinds) - 1 - kinds[::-1].index(TextDelta)
    assert AudioDelta in kinds[:last_text] and kinds[last_text:].count(AudioDelta) > 1


@pytest.mark.parametrize("heard", range(len(uncut())))
def test_after_a_cancel_the_next_event_is_done_whichever_was_the_last(heard: int) -> None:
    talk = session(CHOPPED)
    events = talk.ask(FIRST)
    before = [next(events) for _ in range(heard)]
    talk.cancel()
    (done,) = events
    assert isinstance(done, Done) and done.reason == "cancelled"
    tokens = [event.token_id for event in before if isinstance(event, TextDelta)]
    chunks = [event for event in before if isinstance(event, AudioDelta)]
    assert done.token_ids == tokens and len(done.chunks) == len(chunks)
    assert texts(talk)[1] == done.text
    expected = fresh_second_turn(talk, SECOND)
    assert answer(talk, SECOND)[1].token_ids == expected.token_ids


@pytest.mark.parametrize("place", [0, 2, 9])
def test_a_cancel_during_a_forward_says_nothing_of_its_token(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, calls = session(), count()
    forward = model().language_model.forward

    def cancelling(*args, **kwargs):
        if next(calls) == place:
            talk.cancel()  # as another thread would
        return forward(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(model().language_model, "forward", cancelling)
        _, done = answer(talk, FIRST)
    assert (done.reason, done.token_ids) == ("cancelled", alone(FIRST).token_ids[:place])
    # The forward's position is in the cache, and the next turn knows it.
    expected = fresh_second_turn(talk, SECOND)
    assert answer(talk, SECOND)[1].token_ids == expected.token_ids


def test_a_cancel_while_the_question_is_encoded_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = session()
    encode = model().encode_speech

    def cancelling(**batch):
        talk.cancel()
        return encode(**batch)

    monkeypatch.setattr(model(), "encode_speech", cancelling)
    (done,) = talk.ask(question())
    assert isinstance(done, Done) and (done.reason, done.token_ids) == ("cancelled", [])


def test_a_cancel_before_anything_runs_does_nothing() -> None:
    talk = session()
    talk.cancel()
    talk.push_text(FIRST)
    talk.cancel()
    assert end_of(list(talk.run())).reason == "length"


def test_an_iterator_that_is_closed_before_its_first_event_was_a_question() -> None:
    talk = session()
    talk.ask(FIRST).close()
    assert texts(talk) == [FIRST, ""]


def test_a_reset_cancels_and_forgets_the_reply_that_runs() -> None:
    talk = session()
    events = talk.ask(FIRST)
    next(events)
    talk.reset()
    assert end_of(list(events)).reason == "cancelled"
    assert talk.history == []
    assert answer(talk, SECOND)[1].token_ids == alone(SECOND).token_ids


def test_cancelling_stops_within_a_token_and_what_was_said_stays_said() -> None:
    talk = session()
    events: list[Event] = []
    for event in talk.ask(question()):
        events.append(event)
        if sum(isinstance(one, TextDelta) for one in events) == 3:
            talk.cancel()
    done = events[-1]
    assert isinstance(done, Done) and done.reason == "cancelled"
    assert len(done.token_ids) == 3
    assert talk.history[-1].text == done.text


def test_a_cancel_before_the_first_event_counts() -> None:
    talk = session()
    events = talk.ask(question())
    talk.cancel()
    (done,) = events
    assert isinstance(done, Done) and (done.reason, done.token_ids) == ("cancelled", [])


def test_a_cancel_of_the_last_reply_does_not_touch_the_next() -> None:
    talk = session()
    answer(talk, "Tell me")
    talk.cancel()
    assert answer(talk, question())[1].reason == "length"


def test_a_listener_who_goes_away_cancels_and_the_conversation_goes_on() -> None:
    talk = session()
    events = talk.ask(question())
    for _ in range(3):
        next(events)
    events.close()  # type: ignore[attr-defined]
    assert [message.role for message in talk.history] == ["user", "assistant"]
    expected = fresh_second_turn(talk, "Tell me")
    assert answer(talk, "Tell me")[1].token_ids == expected.token_ids
