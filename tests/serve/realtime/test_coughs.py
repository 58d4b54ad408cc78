"""A cough stops an answer for a moment: then what was not heard of it is said after all."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from omni.engine import Engine
from omni.loading import load
from omni.session import SessionConfig
from tests.realtime import Desk, Event, of, only, silence, sound, transcript
from tests.tiny import question

torch.set_num_threads(1)
ASKED, ANSWER = "What is the capital of France?", "The capital of France is Paris."
ALSO = "What is two plus two?"
COUGH = np.concatenate([question(0.1), silence(0.7)])  # 128 ms of voice, as the detector counts
WORD = np.concatenate([question(0.3), silence(0.7)])
HEARD_MS = 1_000


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(*load(), max_sessions=20) as engine:
        yield engine


def interrupted(
    engine: Engine,
    by: np.ndarray,
    *,
    heard_ms: int | None,
    until: str = "response.done",
    **omni: int,
) -> tuple[Desk, list[Event], list[Event]]:
    """An answer that somebody interrupts after that event; the desk, what came before it, and the
    response that came after it.

    heard_ms: what the client says that it has played; by the clock, which stands, it is nothing.
    """
    desk = Desk(engine, SessionConfig())
    desk.talk._answering._now = lambda: 0.0
    if omni:
        desk.update(omni=omni)
    desk.write(ASKED)
    before = desk.send("response.create")
    before += desk.until(until)
    after = desk.say(by[:4_000])
    if heard_ms is not None:
        item_id = answer_id(before)
        cut = {"item_id": item_id, "content_index": 0, "audio_end_ms": heard_ms}
        desk.send("conversation.item.truncate", **cut)
    after += desk.say(by[4_000:])
    after += desk.until("response.done")
    last = of(after, "response.created")[-1]
    return desk, before, after[after.index(last) :]


def answer_id(events: list[Event]) -> str:
    return only(events, "response.output_item.added")["item"]["id"]


def shown(desk: Desk, item_id: str) -> str:
    (told,) = desk.send("conversation.item.retrieve", item_id=item_id)
    return told["item"]["content"][0]["transcript"]


@pytest.mark.parametrize("until", ["response.done", "response.output_audio.delta"])
def test_after_a_cough_the_rest_of_the_answer_is_said(engine: Engine, until: str) -> None:
    desk, before, rest = interrupted(engine, COUGH, heard_ms=HEARD_MS, until=until)
    first, second = shown(desk, answer_id(before)), transcript(rest)
    assert first + second == ANSWER
    if until == "response.done":
        assert first and second
    assert rest[-1]["response"]["status"] == "completed"


@pytest.mark.parametrize("until", ["response.done", "response.output_audio.delta"])
def test_an_answer_that_its_listener_has_stopped_does_not_go_on_after_a_cough(
    engine: Engine, until: str
) -> None:
    desk = Desk(engine, SessionConfig())
    desk.talk._answering._now = lambda: 0.0
    desk.write(ASKED)
    before = desk.send("response.create")
    before += desk.until(until)
    if until != "response.done":
        desk.send("response.cancel")
    item_id = answer_id(before)
    desk.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=HEARD_MS)
    after = [*desk.say(COUGH), *desk.until("response.done")]
    assert shown(desk, item_id) + transcript(after) != ANSWER
    assert len(desk.talk._conversation.asked().past) == 2  # the cough is answered by itself


def test_the_model_is_told_of_one_answer_and_of_no_cough(engine: Engine) -> None:
    desk, *_ = interrupted(engine, COUGH, heard_ms=HEARD_MS)
    desk.write(ALSO)
    asked = desk.talk._conversation.asked()
    assert asked.question == ALSO
    (one,) = asked.past
    assert (one.question, one.answer.split()) == (ASKED, ANSWER.split())


def test_the_sound_goes_on_where_the_last_word_that_was_heard_ends(engine: Engine) -> None:
    _, before, rest = interrupted(engine, COUGH, heard_ms=HEARD_MS)
    everything, again = sound(before), sound(rest)
    assert 0 < HEARD_MS - (len(everything) - len(again)) / 48 < HEARD_MS
    skipped = 2_000  # bytes at the beginning, where a resampler has not heard what came before
    assert near(everything[-len(again) + skipped :], again[skipped:])


def near(one: bytes, other: bytes) -> bool:
    """Two resamplings of the same samples, which begin at different places."""
    first, second = (np.frombuffer(data, "<i2").astype(float) for data in (one, other))
    return bool(np.corrcoef(first, second)[0, 1] > 0.9)


def test_an_answer_can_be_coughed_at_again_and_again(engine: Engine) -> None:
    desk, before, rest = interrupted(engine, COUGH, heard_ms=500)
    cut = {"item_id": answer_id(rest), "content_index": 0, "audio_end_ms": 800}
    told = desk.say(COUGH[:4_000])
    desk.send("conversation.item.truncate", **cut)
    told += [*desk.say(COUGH[4_000:]), *desk.until("response.done")]
    words = [shown(desk, answer_id(before)), shown(desk, answer_id(rest)), transcript(told)]
    assert "".join(words) == ANSWER and all(words)


def made_at_once(engine: Engine) -> Desk:
    """An answer that is whole before the client takes any of it."""
    desk = Desk(engine, SessionConfig())
    desk.talk._answering._now = lambda: 0.0
    desk.update(omni={"chunk_size": "all"})
    desk.write_unread(ASKED)
    while desk.talk._answering.active is not None:
        desk.pump()
    return desk


def test_a_cough_after_a_reply_that_was_made_at_once_goes_on_with_it(engine: Engine) -> None:
    desk = made_at_once(engine)
    desk.events()  # all of it goes out now, and by the clock nothing of it has been played
    told = [*desk.say(COUGH), *desk.until("response.done")]
    assert transcript(told) == ANSWER and questions(desk) == 2


def test_what_has_not_gone_out_of_a_reply_is_not_sent_to_who_coughs(engine: Engine) -> None:
    desk = made_at_once(engine)
    told = [*desk.say(COUGH, piece=len(COUGH) * 2), *desk.until("response.done")]
    _, last = of(told, "response.created")
    heard = {event["response_id"] for event in of(told, "response.output_audio.delta")}
    assert heard == {last["response"]["id"]} and transcript(told) == ANSWER


def questions(desk: Desk) -> int:
    """How many the model is told of."""
    desk.write(ALSO)
    return 1 + len(desk.talk._conversation.asked().past)


def test_a_word_is_a_question_however_short(engine: Engine) -> None:
    desk, *_ = interrupted(engine, WORD, heard_ms=HEARD_MS)
    assert questions(desk) == 3


def test_a_session_says_how_long_a_question_is_at_least(engine: Engine) -> None:
    desk, *_ = interrupted(engine, COUGH, heard_ms=HEARD_MS, false_interruption_ms=0)
    assert questions(desk) == 3
    desk, *_ = interrupted(engine, WORD, heard_ms=HEARD_MS, false_interruption_ms=600)
    assert questions(desk) == 2


def test_without_word_from_the_client_the_clock_says_what_was_heard(engine: Engine) -> None:
    *_, after = interrupted(engine, COUGH, heard_ms=None)
    assert transcript(after) == ANSWER


def test_a_cough_that_interrupts_nothing_is_a_turn(engine: Engine) -> None:
    desk = Desk(engine, SessionConfig())
    assert of(desk.say(COUGH), "response.created")


def test_an_answer_that_the_client_has_deleted_is_not_gone_on_with(engine: Engine) -> None:
    desk = Desk(engine, SessionConfig())
    desk.write(ASKED)
    before = desk.answer()
    desk.say(COUGH[:4_000])
    desk.send("conversation.item.delete", item_id=answer_id(before))
    desk.say(COUGH[4_000:])
    desk.until("response.done")
    assert questions(desk) == 3  # what was asked, and the cough
