"""Turns: who begins and ends them, and what a new one or a client cancels."""

import base64
import json
from queue import Empty

import numpy as np
import pytest
import torch

from omni.engine import Engine
from omni.session import SessionConfig
from serve.realtime.events import BufferCleared
from serve.realtime.limits import Limits
from tests.realtime import (
    ALSO,
    ANSWERED,
    ASKED,
    ENDED,
    Desk,
    deltas_left_out,
    of,
    only,
    pcm,
    silence,
    spoken_turn,
    transcript,
    types,
)
from tests.talk import SHORT, answer, session
from tests.tiny import question

torch.set_num_threads(1)
LONG = SessionConfig(max_new_tokens=80)


def test_a_turn_is_heard_committed_and_answered_by_itself(desk: Desk) -> None:
    told = desk.say(spoken_turn())
    assert types(told)[:5] == [
        "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed", "conversation.item.added", "conversation.item.done",
    ]  # fmt: skip
    started, stopped = told[0], told[1]
    assert {event.get("item_id", event.get("item", {}).get("id")) for event in told[:5]} == {
        started["item_id"]
    }
    assert started["audio_start_ms"] == pytest.approx(200, abs=40)  # 300 ms of padding
    assert stopped["audio_end_ms"] == pytest.approx(2_000, abs=40)
    events = [*told[5:], *desk.until("response.done")]
    assert deltas_left_out(events) == [*ANSWERED, *ENDED]


def test_a_turn_is_not_answered_where_the_client_wants_to_do_it(desk: Desk) -> None:
    detection = {"type": "server_vad", "create_response": False}
    desk.update(audio={"input": {"turn_detection": detection}})
    assert "response.created" not in types(desk.say(spoken_turn()))
    assert desk.answer()[-1]["response"]["output"]


def test_a_turn_that_the_client_commits_waits_for_its_response_create(desk: Desk) -> None:
    desk.say(question())
    assert types(desk.send("input_audio_buffer.commit")) == [
        "input_audio_buffer.committed", "conversation.item.added", "conversation.item.done",
    ]  # fmt: skip
    assert desk.settle() == []
    response = desk.answer(metadata={"k": "v"})[-1]["response"]
    assert response["metadata"] == {"k": "v"}
    assert response["usage"]["input_token_details"]["audio_tokens"] > 5


def test_a_commit_that_is_refused_leaves_nothing_in_the_turn(desk: Desk) -> None:
    for _ in range(5):  # of a voice nothing has been heard
        desk.say(silence(0.1))
        (told,) = desk.send("input_audio_buffer.commit")
        assert told["error"]["code"] == "input_audio_buffer_commit_empty"
    assert desk.talk._hearing._live.samples == 0
    desk.manual().send("input_audio_buffer.clear")
    desk.say(question(0.06))
    (told,) = desk.send("input_audio_buffer.commit")
    assert "60 ms of audio" in told["error"]["message"]
    desk.say(question(0.05))  # together they are long enough
    assert of(desk.send("input_audio_buffer.commit"), "input_audio_buffer.committed")


def started_answer(engine: Engine, **detection: object) -> Desk:
    """A desk at which a long answer has begun to sound."""
    desk = Desk(engine, LONG)
    desk.update(audio={"input": {"turn_detection": {"type": "server_vad", **detection}}})
    desk.write(ASKED)
    desk.send("response.create")
    desk.until("response.output_audio.delta")
    return desk


def test_who_speaks_interrupts_and_nothing_of_the_old_answer_follows(engine: Engine) -> None:
    desk = started_answer(engine)
    told = desk.say(np.concatenate([silence(0.5), question(0.3)]))
    told += desk.settle()
    place = types(told).index("input_audio_buffer.speech_started")
    after = types(told)[place + 1 :]
    assert after == ENDED
    response = told[-1]["response"]
    assert (response["status"], response["status_details"]["reason"]) == (
        "cancelled", "turn_detected",
    )  # fmt: skip
    assert response["output"][0]["status"] == "incomplete"
    told = [*desk.say(silence(0.7)), *desk.until("response.done")]
    assert told[-1]["response"]["id"] != response["id"]
    assert {e["response_id"] for e in told if "response_id" in e} == {told[-1]["response"]["id"]}


def test_an_answer_may_go_on_while_somebody_speaks_and_the_next_follows_it(engine: Engine) -> None:
    desk = started_answer(engine, interrupt_response=False)
    told = desk.say(spoken_turn())
    told += desk.until("response.done")
    first = only(told, "response.done")["response"]
    assert first["status"] == "incomplete"  # as long as it may be
    second = desk.until("response.done")
    assert of([*told, *second], "response.created")
    assert second[-1]["response"]["status"] == "incomplete"


def test_turns_that_come_while_an_answer_is_made_are_not_lost(engine: Engine) -> None:
    desk = started_answer(engine, create_response=False, interrupt_response=False)
    desk.say(spoken_turn(seed=1))
    desk.say(spoken_turn(seed=2))
    desk.until("response.done")
    usage = desk.answer()[-1]["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] > 20  # both turns


def test_a_turn_that_never_ends_is_ended(engine: Engine) -> None:
    desk = Desk(engine, SHORT, limits=Limits(utterance_s=2))
    told = desk.say(np.concatenate([question(2.0), question(1.0)]))
    assert "input_audio_buffer.committed" in types(told)
    assert only(told, "input_audio_buffer.speech_stopped")["audio_end_ms"] == pytest.approx(
        2_000, abs=64
    )


@pytest.mark.parametrize("piece", [480, 1_440])
def test_a_turn_as_long_as_the_encoder_hears_is_answered(engine: Engine, piece: int) -> None:
    longest_s = engine.processor.max_seconds
    desk = Desk(engine, SHORT, longest_s=longest_s)
    turn = np.concatenate([silence(0.5), question(longest_s + 1), silence(0.7)])
    told = [*desk.say(turn, piece=piece), *desk.settle()]
    assert len(of(told, "input_audio_buffer.committed")) == 2  # what goes on is another turn
    response = of(told, "response.done")[-1]["response"]
    assert response["output"]
    heard = response["usage"]["input_token_details"]["audio_tokens"]
    assert heard == pytest.approx(10 * (longest_s + 1), abs=10)  # the first turn as well


def test_a_buffer_that_a_client_has_filled_is_answered(engine: Engine) -> None:
    longest_s = engine.processor.max_seconds
    desk = Desk(engine, SHORT, longest_s=longest_s).manual()
    # These 5 ms are still in the resampler, and nothing is refused.
    assert desk.say(question(longest_s + 0.005)) == []
    desk.send("input_audio_buffer.commit")
    assert desk.answer()[-1]["response"]["output"]


def test_what_was_heard_before_a_voice_is_no_longer_than_a_turn(engine: Engine) -> None:
    detection = {"type": "server_vad", "prefix_padding_ms": 5_000}
    desk = Desk(engine, SHORT, longest_s=2.0)
    desk.update(audio={"input": {"turn_detection": detection}})
    told = desk.say(np.concatenate([silence(4.0), question(0.2)]))
    started, stopped = told[0], told[1]
    assert stopped["audio_end_ms"] - started["audio_start_ms"] == 2_000


def test_what_a_client_clears_was_never_said(desk: Desk) -> None:
    desk.manual().say(question(seed=4))
    assert types(desk.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    desk.say(question())
    desk.send("input_audio_buffer.commit")
    usage = desk.answer()[-1]["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 10


def test_a_turn_that_was_ended_and_not_asked_outlives_a_change_of_rules(desk: Desk) -> None:
    desk.manual().say(question())
    desk.send("input_audio_buffer.commit")
    desk.update(audio={"input": {"turn_detection": {"type": "server_vad"}}})
    usage = desk.answer()[-1]["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 10


def test_what_is_asked_while_an_answer_begins_stands_after_it(desk: Desk) -> None:
    desk.write(ASKED, previous_item_id=None)
    desk.send("response.create")  # the engine has not said anything yet
    later = only(desk.write(ALSO), "conversation.item.added")["item"]["id"]
    events = desk.until("response.done")
    said = only(events, "response.output_item.done")["item"]["id"]
    (also,) = desk.send(
        "conversation.item.create",
        item={"type": "message", "role": "system", "content": []}, previous_item_id=said,
    )[:1]  # fmt: skip
    assert also["previous_item_id"] == said
    talk = session()
    answer(talk, ASKED)
    assert transcript(desk.answer()) == answer(talk, ALSO)[1].text and later


def test_others_are_served_while_a_long_piece_of_sound_is_heard(desk: Desk) -> None:
    sound = np.concatenate([spoken_turn(), silence(7)])
    audio = base64.b64encode(pcm(sound)).decode()
    steps = desk.talk.handle(json.dumps({"type": "input_audio_buffer.append", "audio": audio}), 32)
    told = [[event["type"] for event in desk.events()] for _ in steps]
    seconds = len(sound) / 16_000
    assert len(told) == pytest.approx(2 * seconds, abs=2)  # half a second without a pause
    place = [names[:1] == ["input_audio_buffer.speech_started"] for names in told].index(True)
    assert place == 1  # what is told is told at once: it began 0.5 s into the sound


# What is cancelled


def test_a_cancelled_answer_ends_at_once(engine: Engine) -> None:
    desk = started_answer(engine)
    told = desk.send("response.cancel")
    assert types(told) == ENDED
    assert told[-1]["response"]["status_details"]["reason"] == "client_cancelled"
    assert desk.settle() == []


def test_only_the_answer_that_is_active_can_be_cancelled(engine: Engine) -> None:
    desk = started_answer(engine)
    (error,) = desk.send("response.cancel", response_id="another")
    assert error["error"]["code"] == "response_cancel_not_active"
    desk.until("response.done")
    (error,) = desk.send("response.cancel", event_id="mine")
    assert error["error"]["code"] == "response_cancel_not_active"
    assert error["error"]["message"].startswith("Cancellation failed")
    assert error["error"]["event_id"] == "mine"


def test_one_answer_at_a_time(engine: Engine) -> None:
    desk = started_answer(engine)
    (error,) = desk.send("response.create")
    assert error["error"]["code"] == "conversation_already_has_active_response"
    assert desk.until("response.done")[-1]["response"]["status"] == "incomplete"


def test_an_answer_that_is_cut_while_it_is_made_keeps_what_was_heard(engine: Engine) -> None:
    desk = started_answer(engine)
    item_id = only(
        desk.talk._answering.active and [{"type": "x", "id": desk.talk._answering.active.item.id}],
        "x",
    )["id"]  # fmt: skip
    cut = {"item_id": item_id, "content_index": 0, "audio_end_ms": 0}
    assert "conversation.item.truncated" in types(desk.send("conversation.item.truncate", **cut))
    desk.until("response.done")
    (shown,) = desk.send("conversation.item.retrieve", item_id=item_id)
    assert shown["item"]["content"][0]["transcript"] == ""


def test_a_slow_client_stops_its_own_answer_alone(engine: Engine) -> None:
    desk = Desk(engine, LONG, limits=Limits(unsent_audio_s=0.5))
    desk.write_unread(ASKED)
    for _ in range(200):  # nobody takes anything
        if desk.outbox.audio_ms > 500:
            break
        desk.pump()
    ahead = desk.outbox.audio_ms
    assert ahead > 500
    told = desk.settle()
    assert "response.done" not in types(told)
    assert desk.until("response.done")[-1]["response"]["status"] == "incomplete"


def test_an_answer_waits_where_the_one_before_it_has_not_been_taken(engine: Engine) -> None:
    desk = Desk(engine, LONG)
    desk.outbox.put(BufferCleared(), audio_ms=2_500)
    desk.write_unread(ASKED)
    desk.pump()  # it has begun
    with pytest.raises(Empty):
        desk.pump(wait_s=1)
    assert desk.talk._answering.active is not None
    assert desk.until("response.done")[-1]["response"]["status"] == "incomplete"
