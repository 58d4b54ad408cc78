"""A session without a network: what is told, in which order, and what is remembered of it."""

import base64
import copy
import json
from collections.abc import Iterator
from queue import Empty

import numpy as np
import pytest
import torch

from omni.engine import Engine
from omni.processor import OmniProcessor
from omni.session import SessionConfig
from omni.session.events import Done
from serve.realtime.events import BufferCleared
from serve.realtime.limits import Limits
from serve.realtime.messages import CLIENT_EVENTS
from tests.realtime import (
    Desk,
    Event,
    of,
    only,
    pcm,
    silence,
    sound,
    transcript,
    types,
)
from tests.talk import SHORT, answer, model, processor, session
from tests.tiny import question, tiny_config, tiny_tokenizer

torch.set_num_threads(1)
ASKED, ALSO = "What is two and two?", "How warm is it?"
ANSWERED = [
    "response.created", "response.output_item.added", "conversation.item.added",
    "response.content_part.added",
]  # fmt: skip
ENDED = [
    "response.output_audio.done", "response.output_audio_transcript.done",
    "response.content_part.done", "response.output_item.done", "conversation.item.done",
    "response.done",
]  # fmt: skip
LONG = SessionConfig(max_new_tokens=80)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(model(), processor(), max_sessions=200) as engine:
        yield engine


@pytest.fixture
def desk(engine: Engine) -> Iterator[Desk]:
    desk = Desk(engine, SHORT)
    yield desk
    desk.talk.close()


def alone(asked: np.ndarray | str, config: SessionConfig = SHORT) -> Done:
    return answer(session(config), asked)[1]


def deltas_left_out(events: list[Event]) -> list[str]:
    return [name for name in types(events) if not name.endswith(".delta")]


# What is answered


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


# Turns


def spoken_turn(seed: int = 0) -> np.ndarray:
    return np.concatenate([silence(0.5), question(seed=seed), silence(0.7)])


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


# The session


def test_voice_and_model_that_nobody_knows_stand_for_ours(desk: Desk) -> None:
    told = desk.update(model="gpt-realtime", audio={"output": {"voice": "marin"}})
    assert told["type"] == "session.updated"
    assert told["session"]["model"] == "tiny"
    assert told["session"]["audio"]["output"]["voice"] == "default"


def test_an_update_changes_what_it_names_and_null_is_a_value(desk: Desk) -> None:
    first = desk.update(instructions="Be kind.", audio={"output": {"speed": 1.25}})["session"]
    told = desk.update(audio={"input": {"turn_detection": None}})["session"]
    assert (told["instructions"], told["audio"]["output"]["speed"]) == ("Be kind.", 1.25)
    assert first["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert told["audio"]["input"]["turn_detection"] is None
    assert told["id"] == first["id"]


def test_semantic_turns_are_taken(desk: Desk) -> None:
    detection = {"type": "semantic_vad", "eagerness": "high"}
    told = desk.update(audio={"input": {"turn_detection": detection}})
    assert told["session"]["audio"]["input"]["turn_detection"]["eagerness"] == "high"
    assert "input_audio_buffer.committed" in types(desk.say(spoken_turn()))


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_telephone_sound_goes_both_ways(desk: Desk, kind: str) -> None:
    from serve.realtime.formats import WireEncoder

    form = {"format": {"type": kind}}
    desk.update(audio={"input": {**form, "turn_detection": None}, "output": form})
    data = WireEncoder(kind).encode(question(), last=True)  # type: ignore[arg-type]
    desk.send("input_audio_buffer.append", audio=base64.b64encode(data).decode())
    desk.send("input_audio_buffer.commit")
    events = desk.answer()
    seconds = len(sound(events)) / 8_000
    words = desk.talk._conversation.find(events[-1]["response"]["output"][0]["id"]).said
    assert words is not None and seconds == pytest.approx(words.audio_ms / 1e3, abs=1e-3)


def test_a_model_that_was_taught_system_messages_is_told_the_instructions(engine: Engine) -> None:
    positions = []
    for takes in (False, True):
        desk = Desk(engine, SHORT, takes_system=takes)
        desk.update(instructions="Be kind.")
        desk.write(ASKED)
        positions.append(desk.answer()[-1]["response"]["usage"]["input_tokens"])
    assert positions[1] > positions[0]


def test_tools_are_taken_and_that_nothing_comes_of_them_is_logged_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    tool = {"type": "function", "name": "now", "parameters": {"type": "object"}}
    assert desk.update(tools=[tool])["session"]["tools"][0]["name"] == "now"
    desk.update(tools=[tool])
    assert sum("no place for" in record.message for record in caplog.records) == 1


def test_a_template_with_a_place_for_tools_is_given_them() -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = (
        "{% for tool in tools or [] %}{{ tool.function.name }}{% endfor %}"
        f"{tokenizer.chat_template}"
    )
    knowing = OmniProcessor(tokenizer, tiny_config())
    positions = []
    with Engine(model(), knowing, max_sessions=2) as engine:
        for tools in ([], [{"type": "function", "name": "what time is it"}]):
            desk = Desk(engine, SHORT, takes_tools=True)
            desk.update(tools=tools)
            desk.write(ASKED)
            positions.append(desk.answer()[-1]["response"]["usage"]["input_tokens"])
    assert positions[1] > positions[0]


def test_without_a_recogniser_transcripts_fail_clearly_and_the_answer_comes(desk: Desk) -> None:
    desk.update(audio={"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}})
    told = [*desk.say(spoken_turn()), *desk.until("response.done")]
    failed = only(told, "conversation.item.input_audio_transcription.failed")
    assert failed["error"]["code"] == "no_recogniser"
    assert failed["item_id"] == only(told, "input_audio_buffer.committed")["item_id"]


def test_a_recogniser_writes_down_what_was_said(engine: Engine) -> None:
    desk = Desk(engine, SHORT, recogniser=lambda samples: f"{len(samples)} samples")
    desk.manual().update(audio={"input": {"transcription": {}}})
    desk.say(question())
    desk.send("input_audio_buffer.commit")
    (told,) = desk.until("conversation.item.input_audio_transcription.completed")
    assert told["transcript"].endswith("samples")
    assert told["usage"]["seconds"] == pytest.approx(1.0, abs=0.01)


# What is wrong is told, and nothing else happens


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
    desk.talk.handle(event, 32)
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


def test_a_buffer_that_is_full_takes_no_more(engine: Engine) -> None:
    desk = Desk(engine, SHORT, limits=Limits(utterance_s=1)).manual()
    told = desk.say(question(1.5))
    assert {event["error"]["code"] for event in told} == {"input_audio_buffer_full"}
    desk.send("input_audio_buffer.commit")
    assert desk.answer()[-1]["response"]["output"]


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
