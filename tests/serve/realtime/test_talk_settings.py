"""What a session may be set to, and what comes of it."""

import base64
import copy

import pytest
import torch

from omni.engine import Engine
from omni.processor import OmniProcessor
from tests.realtime import ASKED, Desk, only, sound, spoken_turn, types
from tests.talk import SHORT, model
from tests.tiny import question, tiny_config, tiny_tokenizer

torch.set_num_threads(1)


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
