"""What is answered, in which order it is told, and what is remembered of it."""

import json

import pytest
import torch

from tests.realtime import (
    ALSO,
    ANSWERED,
    ASKED,
    ENDED,
    Desk,
    alone,
    deltas_left_out,
    of,
    only,
    silence,
    sound,
    transcript,
    types,
)
from tests.talk import answer, model, session
from tests.tiny import question

torch.set_num_threads(1)


def test_an_answer_comes_in_the_order_that_clients_wait_for(desk: Desk) -> None:
    desk.write(ASKED)
    events = desk.answer(metadata={"k": "v"})
    assert deltas_left_out(events) == [*ANSWERED, *ENDED]
    expected = alone(ASKED)
    assert transcript(events) == expected.text
    seconds = sum(chunk.samples for chunk in expected.chunks) / 16_000
    assert len(sound(events)) == pytest.approx(48_000 * seconds, abs=4)
    response = events[-1]["response"]
    assert response["metadata"] == {"k": "v"}
    assert response["status_details"]["reason"] == "max_output_tokens"  # of the tiny model
    assert response["output"][0]["content"] == [
        {"type": "output_audio", "transcript": expected.text}
    ]
    usage = response["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    assert usage["output_token_details"] == {
        "text_tokens": len(expected.token_ids), "audio_tokens": len(expected.units),
    }  # fmt: skip


def test_an_answer_may_be_text_alone(desk: Desk) -> None:
    desk.write(ASKED)
    events = desk.answer(output_modalities=["text"])
    assert "response.output_text.done" in types(events)
    assert not any("audio" in name for name in types(events))
    text = "".join(event["delta"] for event in of(events, "response.output_text.delta"))
    assert text == alone(ASKED).text == only(events, "response.output_text.done")["text"]


def test_a_spoken_question_is_answered_as_the_model_answers_it(desk: Desk) -> None:
    desk.manual().say(question())
    committed = desk.send("input_audio_buffer.commit")
    assert types(committed) == [
        "input_audio_buffer.committed", "conversation.item.added", "conversation.item.done",
    ]  # fmt: skip
    events = desk.answer()
    assert events[-1]["response"]["usage"]["input_token_details"]["audio_tokens"] == 10
    assert transcript(events)


def test_the_conversation_is_remembered(desk: Desk) -> None:
    talk = session()
    answer(talk, ASKED)
    expected = answer(talk, ALSO)[1]
    desk.write(ASKED)
    desk.answer()
    desk.write(ALSO)
    events = desk.answer()
    assert transcript(events) == expected.text
    assert events[-1]["response"]["usage"]["input_token_details"]["cached_tokens"] > 0


def test_a_deleted_item_is_forgotten(desk: Desk) -> None:
    first = only(desk.write(ASKED), "conversation.item.added")["item"]["id"]
    said = desk.answer()[-1]["response"]["output"][0]["id"]
    for item_id in (first, said):
        assert desk.send("conversation.item.delete", item_id=item_id)[0]["item_id"] == item_id
    desk.write(ALSO)
    assert transcript(desk.answer()) == alone(ALSO).text


def test_what_was_not_heard_is_forgotten(desk: Desk) -> None:
    desk.write(ASKED)
    events = desk.answer()
    item_id = events[-1]["response"]["output"][0]["id"]
    half_ms = len(sound(events)) // 96
    cut = {"item_id": item_id, "content_index": 0, "audio_end_ms": half_ms}
    (told,) = desk.send("conversation.item.truncate", **cut)
    assert (told["type"], told["audio_end_ms"]) == ("conversation.item.truncated", half_ms)
    (shown,) = desk.send("conversation.item.retrieve", item_id=item_id)
    heard = shown["item"]["content"][0]["transcript"]
    assert transcript(events).startswith(heard) and len(heard) < len(transcript(events))


def test_an_answer_stopped_before_its_first_sound_was_not_said(desk: Desk) -> None:
    desk.update(omni={"chunk_size": "all"})
    desk.write(ASKED)
    desk.send("response.create")
    begun = desk.until("response.output_audio_transcript.delta")
    desk.send("response.cancel")
    item_id = only(begun, "conversation.item.added")["item"]["id"]
    for cut in (None, {"item_id": item_id, "content_index": 0, "audio_end_ms": 0}):
        if cut is not None:
            desk.send("conversation.item.truncate", **cut)
        (shown,) = desk.send("conversation.item.retrieve", item_id=item_id)
        assert shown["item"]["content"][0]["transcript"] == ""
    assert transcript(desk.answer()) == alone(ASKED).text


def test_a_time_after_the_end_is_no_error(desk: Desk) -> None:
    desk.write(ASKED)
    item_id = desk.answer()[-1]["response"]["output"][0]["id"]
    cut = {"item_id": item_id, "content_index": 0, "audio_end_ms": 10**6}
    assert desk.send("conversation.item.truncate", **cut)[0]["type"] == (
        "conversation.item.truncated"
    )


def test_items_are_answered_that_are_not_part_of_the_conversation(desk: Desk) -> None:
    desk.write(ASKED)
    content = [{"type": "input_text", "text": ALSO}]
    item = {"type": "message", "role": "user", "content": content}
    events = desk.answer(conversation="none", input=[item])
    assert transcript(events) == alone(ALSO).text
    assert "conversation.item.added" not in types(events)
    assert events[-1]["response"].get("conversation_id") is None
    assert transcript(desk.answer()) == alone(ASKED).text  # as if it had not been


def test_a_spoken_question_is_answered_again_where_its_answer_is_deleted(desk: Desk) -> None:
    desk.manual().say(question())
    desk.send("input_audio_buffer.commit")
    events = desk.answer()
    desk.answer(conversation="none", instructions=ALSO)  # the first one is part of the past now
    said = events[-1]["response"]["output"][0]["id"]
    desk.send("conversation.item.delete", item_id=said)
    assert transcript(desk.answer()) == transcript(events)


def test_an_earlier_spoken_turn_can_be_asked_beside_the_conversation(desk: Desk) -> None:
    desk.manual()
    asked, told = [], []
    for seed in (0, 1):
        desk.say(question(seed=seed))
        asked += of(desk.send("input_audio_buffer.commit"), "input_audio_buffer.committed")
        told.append(transcript(desk.answer()))
    item = {"type": "item_reference", "id": asked[0]["item_id"]}
    assert transcript(desk.answer(conversation="none", input=[item])) == told[0]


def test_a_response_that_cannot_begin_ends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write(ASKED)
    with monkeypatch.context() as patch:

        def failing(*_: object) -> None:
            raise RuntimeError("secret")

        patch.setattr(desk.engine, "run", failing)
        response = desk.answer()[-1]["response"]
    assert (response["status"], response["status_details"]["error"]["code"]) == (
        "failed", "response_failed",
    )  # fmt: skip
    assert transcript(desk.answer()) == alone(ASKED).text


def test_replayed_items_keep_their_ids_and_places(desk: Desk) -> None:
    part = {"type": "output_text", "text": "It is warm."}
    said = {"type": "message", "role": "assistant", "id": "said", "content": [part]}
    assert only(
        desk.send("conversation.item.create", item=said, previous_item_id="root"),
        "conversation.item.added",
    )["item"]["id"] == "said"  # fmt: skip
    asked = {"type": "message", "role": "user", "id": "asked",
             "content": [{"type": "input_text", "text": ALSO}]}  # fmt: skip
    (added, done) = desk.send("conversation.item.create", item=asked, previous_item_id="root")
    assert (added["previous_item_id"], done["item"]["id"]) == (None, "asked")
    desk.write(ASKED)
    talk = session()
    talk.push_text(ALSO)
    assert transcript(desk.answer())


def test_who_asks_nothing_is_told_so_in_the_response(desk: Desk) -> None:
    events = desk.answer()
    response = events[-1]["response"]
    assert deltas_left_out(events) == ["response.created", "response.done"]
    assert (response["status"], response["status_details"]["error"]["code"]) == (
        "failed", "no_question",
    )  # fmt: skip
    assert transcript(desk.answer(instructions=ASKED)) == alone(ASKED).text


def test_silence_is_a_failed_response_and_the_next_question_is_answered(desk: Desk) -> None:
    desk.manual().say(silence(1))
    desk.send("input_audio_buffer.commit")
    response = desk.answer()[-1]["response"]
    assert (response["status"], response["output"]) == ("failed", [])
    assert "silence" in response["status_details"]["error"]["message"]
    desk.write(ASKED)
    assert transcript(desk.answer()) == alone(ASKED).text


def test_the_model_failing_is_a_failed_response_without_its_reasons(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.write(ASKED)
    with monkeypatch.context() as patch:

        def failing(*_: object, **__: object) -> None:
            raise MemoryError("secret")

        patch.setattr(model().language_model, "forward", failing)
        response = desk.answer()[-1]["response"]
    assert response["status"] == "failed" and "secret" not in json.dumps(response)
    assert response["status_details"]["error"]["type"] == "server_error"
