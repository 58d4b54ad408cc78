"""Turns never mix: whose answer is whose, who wins, and what a failure leaves."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from omni.session.events import Done, Event, TextDelta
from omni.session.turn import Turn
from tests.talk import (
    BAD,
    CHOPPED,
    FIRST,
    SECOND,
    alone,
    answer,
    end_of,
    fresh_second_turn,
    session,
    step,
    texts,
)
from tests.tiny import question

torch.set_num_threads(1)


def hear_out(turn: Turn) -> Done:
    while step(turn):
        pass
    with torch.inference_mode():
        return end_of(list(turn.reply.finish()))


# What is asked


def test_text_takes_the_place_of_audio_that_was_pushed_before() -> None:
    talk = session()
    talk.push_audio(question())
    talk.push_text(FIRST)
    assert end_of(list(talk.run())).token_ids == alone(FIRST).token_ids
    assert texts(talk)[0] == FIRST


def test_audio_takes_the_place_of_text_that_was_pushed_before() -> None:
    talk = session()
    talk.push_text(FIRST)
    talk.push_audio(question())
    done = end_of(list(talk.run()))
    assert done.token_ids == answer(session(), question())[1].token_ids != alone(FIRST).token_ids
    assert talk.history[0].text == "" and talk.history[0].positions is not None


def test_a_question_is_taken_when_it_is_asked_and_not_when_it_is_listened_to() -> None:
    talk = session()
    events = talk.ask(FIRST)
    talk.push_text(SECOND)
    assert end_of(list(events)).token_ids == alone(FIRST).token_ids
    assert texts(talk)[0] == FIRST
    answer_to_second = end_of(list(talk.run()))
    assert texts(talk)[2:] == [SECOND, answer_to_second.text]


def test_a_question_that_is_refused_says_so_when_it_is_asked() -> None:
    with pytest.raises(ValueError, match="holds <speech>"):
        session().ask("say <speech>")


def test_a_question_that_nobody_listens_to_is_remembered_with_an_empty_answer() -> None:
    talk = session()
    talk.ask(FIRST)
    assert texts(talk) == [FIRST, ""]
    expected = fresh_second_turn(talk, SECOND)
    _, done = answer(talk, SECOND)
    assert done.token_ids == expected.token_ids
    assert texts(talk) == [FIRST, "", SECOND, done.text]


def test_an_iterator_that_is_kept_and_never_advanced_ends_cancelled() -> None:
    talk = session()
    kept = talk.ask(FIRST)
    _, done = answer(talk, SECOND)
    late = end_of(list(kept))
    assert (late.reason, late.token_ids) == ("cancelled", [])
    assert texts(talk) == [FIRST, "", SECOND, done.text]


# Who wins


def test_the_newer_of_two_questions_wins_and_the_older_stays_as_far_as_it_was_said() -> None:
    talk = session()
    older = talk.ask(FIRST)
    heard = [next(older) for _ in range(4)]
    newer = talk.ask(SECOND)
    said = "".join(event.text for event in heard if isinstance(event, TextDelta))
    assert texts(talk) == [FIRST, said]
    expected = fresh_second_turn(talk, SECOND)
    both: list[list[Event]] = [[], []]
    for _ in range(60):  # listened to by turns
        for mine, events in zip(both, (older, newer), strict=True):
            mine += [event] if (event := next(events, None)) is not None else []
    (cancelled,) = both[0]
    assert isinstance(cancelled, Done) and cancelled.reason == "cancelled"
    assert cancelled.text == said
    assert end_of(both[1]).token_ids == expected.token_ids
    assert texts(talk) == [FIRST, said, SECOND, expected.text]


def test_the_last_chunks_of_a_reply_are_cancelled_by_a_newer_question_too() -> None:
    talk = session(CHOPPED)
    events = list(talk.ask(FIRST))
    last_text = max(n for n, event in enumerate(events) if isinstance(event, TextDelta))
    assert len(events) - last_text > 3  # there are chunks after it
    talk.reset()
    older = talk.ask(FIRST)
    for _ in range(len(events) - 2):
        next(older)
    talk.ask(SECOND)
    (done,) = older
    assert isinstance(done, Done) and done.reason == "cancelled"
    assert texts(talk) == [FIRST, done.text, SECOND, ""]


@pytest.mark.parametrize("bad", BAD)
def test_a_refused_question_leaves_the_reply_that_runs_alone(bad: str) -> None:
    talk = session()
    events = talk.ask(FIRST)
    heard = [next(events) for _ in range(3)]
    asked, message = BAD[bad]
    with pytest.raises(ValueError, match=message):
        talk.ask(asked)
    done = end_of([*heard, *events])
    assert (done.reason, done.token_ids) == (alone(FIRST).reason, alone(FIRST).token_ids)
    assert texts(talk) == [FIRST, done.text]


def test_a_cancel_still_reaches_the_reply_that_runs_after_a_refused_question() -> None:
    talk = session()
    events = talk.ask(FIRST)
    next(events)
    with pytest.raises(ValueError, match="holds <speech>"):
        talk.ask("say <speech>")
    talk.cancel()
    assert end_of(list(events)).reason == "cancelled"


def test_two_sessions_over_one_model_share_nothing() -> None:
    talks = {FIRST: session(), SECOND: session()}
    events = {asked: talk.ask(asked) for asked, talk in talks.items()}
    done: dict[str, Done] = {}
    while len(done) < 2:
        for asked in talks:
            event = next(events[asked], None)
            if isinstance(event, Done):
                done[asked] = event
    for asked, talk in talks.items():
        expected = alone(asked)
        assert (done[asked].token_ids, done[asked].units) == (expected.token_ids, expected.units)
        assert texts(talk) == [asked, expected.text]
    talks[FIRST].cancel()
    assert answer(talks[SECOND], FIRST)[1].reason == "length"


# What a failure leaves


def test_a_voice_that_fails_at_the_last_chunk_leaves_the_conversation_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = session()
    answer(talk, FIRST)
    before = texts(talk)

    def failing(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("omni.session.speaker.Speaker.finish", failing)
        with pytest.raises(MemoryError):
            list(talk.ask("It fails"))
    assert texts(talk) == before
    expected = fresh_second_turn(talk, SECOND)
    _, done = answer(talk, SECOND)
    assert done.token_ids == expected.token_ids
    assert texts(talk) == [*before, SECOND, done.text]


# What an engine does


def test_replies_of_many_sessions_end_in_any_order_under_their_own_questions() -> None:
    talks = {FIRST: session(), SECOND: session()}
    turns = {}
    for asked, talk in talks.items():
        talk.push_text(asked)
        turns[asked] = talk.begin()
    for _ in range(10):
        for turn in turns.values():
            step(turn)
    for asked in reversed(talks):
        talks[asked].remember(turns[asked])
        assert texts(talks[asked]) == [asked, alone(asked).text]


def test_a_turn_that_was_begun_later_is_remembered_later() -> None:
    talk = session()
    talk.push_text(FIRST)
    first = talk.begin()
    step(first)
    said = first.reply.text
    talk.push_text(SECOND)
    second = talk.begin()
    assert step(first) == []
    done = hear_out(second)
    talk.remember(second)
    talk.remember(first)
    talk.remember(second)
    assert texts(talk) == [FIRST, said, SECOND, done.text]


def test_a_turn_that_is_remembered_early_says_no_more() -> None:
    talk = session()
    talk.push_text(FIRST)
    turn = talk.begin()
    step(turn)
    talk.remember(turn)
    assert hear_out(turn).reason == "cancelled"
    assert texts(talk) == [FIRST, turn.reply.text]


def test_a_turn_that_is_forgotten_never_was() -> None:
    talk = session()
    talk.push_text(FIRST)
    turn = talk.begin()
    step(turn)
    talk.forget(turn)
    talk.remember(turn)
    assert talk.history == []
    assert answer(talk, SECOND)[1].token_ids == alone(SECOND).token_ids


def test_a_turn_of_another_session_is_refused() -> None:
    talk, other = session(), session()
    talk.push_text(FIRST)
    turn = talk.begin()
    for give in (other.remember, other.forget):
        with pytest.raises(ValueError, match="begun by another session"):
            give(turn)
    assert other.history == []


def test_a_turn_cannot_be_changed() -> None:
    talk = session()
    talk.push_text(FIRST)
    turn = talk.begin()
    assert (turn.question.text, turn.speech) == (FIRST, None)
    with pytest.raises(FrozenInstanceError):
        turn.question = replace(turn.question, text=SECOND)  # type: ignore[misc]
