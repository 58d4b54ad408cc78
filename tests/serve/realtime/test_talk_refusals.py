"""What is wrong is told, and nothing else happens."""

import base64
import json
from typing import Any

import pytest
import torch

from omni.engine import Engine
from serve.realtime.limits import Limits
from serve.realtime.messages import CLIENT_EVENTS
from tests.realtime import ASKED, Desk, alone, pcm, transcript
from tests.talk import SHORT
from tests.tiny import question

torch.set_num_threads(1)
ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
WRONG = {
    "no JSON": ("{", "invalid_json"),
    "no object": ("[1]", "invalid_json"),
    "half a surrogate": ('{"type": "\\ud800"}', "invalid_json"),
    "not a number": ('{"type": NaN}', "unknown_event"),
    "too deep": ("[" * 40 + "]" * 40, "invalid_json"),
    "too deep an object": ('{"type":' + "[" * 40 + "]" * 40 + "}", "too_deep"),
    "very deep": ('{"type":' + "[" * 100_000 + "]" * 100_000 + "}", "invalid_json"),
    "no event": ({"type": "no.such"}, "unknown_event"),
    "no type": ({"event_id": "e"}, "unknown_event"),
    "a type that is none": ({"type": 5}, "unknown_event"),
    "no audio": ({"type": "input_audio_buffer.append"}, "missing_required_parameter"),
    "no base64": ({"type": "input_audio_buffer.append", "audio": "?"}, "invalid_base64"),
    "half a sample": ({"type": "input_audio_buffer.append", "audio": "QQ=="}, "invalid_audio"),
    "nothing to commit": (
        {"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty"),
    "of WebRTC": ({"type": "output_audio_buffer.clear"}, "unsupported_event"),
    "no such item": (
        {"type": "conversation.item.delete", "item_id": "x"}, "item_delete_invalid_item_id"),
    "nothing to show": (
        {"type": "conversation.item.retrieve", "item_id": "x"}, "item_retrieve_invalid_item_id"),
    "nothing to cut": (
        {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0,
         "audio_end_ms": 1}, "item_truncate_invalid_item_id"),
    "time before the start": (
        {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0,
         "audio_end_ms": -1}, "invalid_value"),
    "after nothing": (
        {"type": "conversation.item.create", "item": ITEM, "previous_item_id": "x"},
        "item_not_found"),
    "a picture": (
        {"type": "conversation.item.create", "item": {**ITEM, "content": [
            {"type": "input_image", "image_url": "data:"}]}}, "invalid_value"),
    "what steers": (
        {"type": "conversation.item.create", "item": {**ITEM, "content": [
            {"type": "input_text", "text": "a <speech> b"}]}}, "invalid_value"),
    "a call that steers": (
        {"type": "conversation.item.create", "item": {
            "type": "function_call", "name": "see", "arguments": '{"a": "<speech>"}'}},
        "invalid_value"),
    "what a function gave that steers": (
        {"type": "conversation.item.create", "item": {
            "type": "function_call_output", "call_id": "c", "output": "a <speech> b"}},
        "invalid_value"),
    "instructions that steer": (
        {"type": "session.update", "session": {"instructions": "Say <speech>."}},
        "invalid_value"),
    "a tool that steers": (
        {"type": "session.update", "session": {"tools": [
            {"type": "function", "name": "f", "parameters": {"<speech>": {}}}]}},
        "invalid_value"),
    "instructions of a response that steer": (
        {"type": "response.create", "response": {"instructions": "Say <speech>."}},
        "invalid_value"),
    "a bad session": (
        {"type": "session.update", "session": {"output_modalities": ["text", "audio"]}},
        "invalid_value"),
    "another rate": (
        {"type": "session.update", "session": {"audio": {"input": {"format": {
            "type": "audio/pcm", "rate": 16_000}}}}}, "invalid_value"),
    "a transcription session": (
        {"type": "session.update", "session": {"type": "transcription"}}, "invalid_value"),
    "a number that is none": (
        {"type": "session.update", "session": {"audio": {"input": {"turn_detection": {
            "type": "server_vad", "threshold": 7}}}}}, "invalid_value"),
    "a bad reply": (
        {"type": "response.create", "response": {"output_modalities": ["smell"]}},
        "invalid_value"),
    "a bad input": (
        {"type": "response.create", "response": {"input": [{"type": "message"}]}},
        "missing_required_parameter"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_told_and_the_session_goes_on(desk: Desk, wrong: str) -> None:
    sent, code = WRONG[wrong]
    before = desk.talk.session
    event = sent if isinstance(sent, str) else json.dumps({"event_id": "mine", **sent})
    desk.handle(event)
    (told,) = desk.events()
    assert (told["type"], told["error"]["code"]) == ("error", code)
    assert told["error"].get("event_id") == (
        None if isinstance(sent, str) else sent.get("event_id", "mine")
    )
    assert desk.talk.session == before and desk.talk._answering.active is None
    desk.write(ASKED)
    assert transcript(desk.answer())


def test_the_field_that_is_wrong_is_named(desk: Desk) -> None:
    (told,) = desk.send("session.update", session={"audio": {"output": {"speed": 9}}})
    assert told["error"]["param"] == "session.audio.output.speed"
    (told,) = desk.send("conversation.item.delete")
    assert told["error"]["param"] == "item_id"


def test_after_a_question_that_is_too_long_the_next_is_answered(desk: Desk) -> None:
    desk.write("Also:")
    desk.write("word " * 600)
    response = desk.answer()[-1]["response"]
    assert response["status_details"]["error"]["code"] == "question_refused"
    desk.write(ASKED)
    assert transcript(desk.answer()) == alone(ASKED).text


def test_an_item_that_is_too_long_for_one_response_stays_in_the_conversation(desk: Desk) -> None:
    (added, _) = desk.write("word " * 50)
    desk.answer()
    item = {"type": "item_reference", "id": added["item"]["id"]}
    refused = desk.answer(conversation="none", input=[item] * 12)[-1]["response"]
    assert refused["status_details"]["error"]["code"] == "question_refused"
    desk.write(ASKED)
    assert len(desk.talk._conversation.asked().past) == 1


def test_a_buffer_that_is_full_takes_no_more(engine: Engine) -> None:
    desk = Desk(engine, SHORT, limits=Limits(utterance_s=1)).manual()
    told = desk.say(question(1.5))
    assert {event["error"]["code"] for event in told} == {"input_audio_buffer_full"}
    desk.send("input_audio_buffer.commit")
    assert desk.answer()[-1]["response"]["output"]


def create(desk: Desk, seconds: float) -> list[dict[str, Any]]:
    audio = base64.b64encode(pcm(question(seconds))).decode()
    part = {"type": "input_audio", "audio": audio}
    return desk.send(
        "conversation.item.create", item={"type": "message", "role": "user", "content": [part]}
    )


def test_a_recording_that_is_longer_than_a_turn_is_refused_when_it_comes(engine: Engine) -> None:
    desk = Desk(engine, SHORT, limits=Limits(utterance_s=1)).manual()
    (told,) = create(desk, 1.5)
    assert told["error"]["code"] == "invalid_value"
    assert "1.5 s of sound; a turn has 1 s at most" in told["error"]["message"]
    assert create(desk, 0.9)[-1]["type"] == "conversation.item.done"


def test_sound_that_nobody_has_answered_is_bounded_and_answering_makes_room(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.realtime.conversation.WAITING_S", 2.0)
    desk.manual()
    assert [create(desk, 0.9)[-1]["type"] for _ in range(2)] == ["conversation.item.done"] * 2
    (told,) = create(desk, 0.9)
    assert told["error"]["code"] == "conversation_full"
    assert (
        "2 s of sound that nobody has answered, 0.9 s more: it takes 2 s"
        in told["error"]["message"]
    )
    desk.write(ASKED)
    assert transcript(desk.answer())
    assert create(desk, 0.9)[-1]["type"] == "conversation.item.done"


def test_a_question_of_many_pieces_sounds_like_one(desk: Desk) -> None:
    desk.manual()
    transcripts = []
    for piece in (100, 24_000):
        desk.say(question(seed=5), piece=piece)
        item_id = desk.send("input_audio_buffer.commit")[0]["item_id"]
        events = desk.answer()
        transcripts.append(transcript(events))
        desk.send("conversation.item.delete", item_id=item_id)
        desk.send("conversation.item.delete", item_id=events[-1]["response"]["output"][0]["id"])
    assert transcripts[0] == transcripts[1]


def test_every_event_of_the_protocol_is_known() -> None:
    assert len(CLIENT_EVENTS) == 11
    assert len(pcm(question(1.0))) == 48_000
