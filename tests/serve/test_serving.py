"""Conversations with the embedded model over a real WebSocket, by a plain and by the official
client; what comes in between is interrupted, cut and cancelled."""

import asyncio
import base64
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
import torch
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from omni.audio import load_audio
from omni.engine import Engine
from omni.loading import NANO, load
from serve.web import ServeSettings, model_of
from serve.web.app import create_app
from tests.realtime import Client, of, only, pcm, served, silence, sound, transcript, types

torch.set_num_threads(1)
QUESTIONS = NANO.parent / "questions"
CAPITAL = load_audio(QUESTIONS / "1-capital-of-france.wav")
SUM = load_audio(QUESTIONS / "4-three-and-eight.wav")
DONE = "response.done"
OPENING = ["session.created", "conversation.created"]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    model, processor = load()
    settings = ServeSettings(max_sessions=4)
    with Engine(model, processor, max_sessions=4) as engine:
        app = create_app(settings, engine, model_of(settings, model, processor))
        with served(app) as port:
            yield port


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    with Client(port) as client:
        assert [client.next()["type"] for _ in range(2)] == OPENING
        yield client


def spoken(question: np.ndarray) -> np.ndarray:
    return np.concatenate([silence(0.4), question, silence(0.8)])


def test_a_spoken_question_is_answered_by_voice(client: Client) -> None:
    client.say(spoken(CAPITAL))
    events = client.until(DONE)
    assert "Paris" in transcript(events)
    assert events[-1]["response"]["status"] == "completed"
    assert len(sound(events)) > 24_000  # half a second
    names = types(events)
    assert names.index("input_audio_buffer.speech_started") < names.index("response.created")


def test_a_written_question_is_answered_too_and_the_spoken_one_after_it(client: Client) -> None:
    part = {"type": "input_text", "text": "What is the capital of Italy?"}
    item = {"type": "message", "role": "user", "content": [part]}
    client.send("conversation.item.create", item=item)
    client.send("response.create")
    events = client.until(DONE)
    assert "Rome" in transcript(events)
    client.say(spoken(CAPITAL))
    usage = client.until(DONE)[-1]["response"]["usage"]["input_token_details"]
    assert usage["audio_tokens"] > 10 and usage["cached_tokens"] > 10


def test_turns_that_the_client_ends_itself_and_what_it_deletes_is_forgotten(
    client: Client,
) -> None:
    turns = {"input": {"turn_detection": None}}
    client.send("session.update", session={"type": "realtime", "audio": turns})
    for question, answer in ((CAPITAL, "Paris"), (SUM, "eleven")):
        client.say(question)
        client.send("input_audio_buffer.commit")
        client.send("response.create")
        events = client.until(DONE)
        assert answer in transcript(events)
        for event in of(events, "conversation.item.done"):
            client.send("conversation.item.delete", item_id=event["item"]["id"])


def test_who_speaks_into_an_answer_hears_no_more_of_it(client: Client) -> None:
    client.say(spoken(CAPITAL))
    client.say(np.concatenate([SUM, silence(0.8)]))  # at once, into the answer
    events = [*client.until(DONE), *client.until(DONE)]
    started = [
        place for place, event in enumerate(events)
        if event["type"] == "input_audio_buffer.speech_started"
    ]  # fmt: skip
    old, new = (event["response"] for event in of(events, DONE))
    deltas = [
        event for event in events[started[1] :]
        if event["type"].endswith(".delta") and event["response_id"] == old["id"]
    ]  # fmt: skip
    assert deltas == [] and new["status"] == "completed"


def test_an_answer_is_cut_and_shown_as_far_as_it_was_heard(client: Client) -> None:
    client.say(spoken(CAPITAL))
    events = client.until(DONE)
    item_id = events[-1]["response"]["output"][0]["id"]
    client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=600)
    client.send("conversation.item.retrieve", item_id=item_id)
    shown = client.until("conversation.item.retrieved")[-1]["item"]
    heard = shown["content"][0]["transcript"]
    assert transcript(events).startswith(heard) and "Paris" not in heard


def test_errors_are_told_and_the_conversation_goes_on(client: Client) -> None:
    client.socket.send("{")
    client.socket.send(b"\x00")
    client.send("response.cancel", event_id="mine")
    codes = [only([client.next()], "error")["error"]["code"] for _ in range(3)]
    assert codes == ["invalid_json", "binary_message", "response_cancel_not_active"]
    client.say(spoken(CAPITAL))
    assert "Paris" in transcript(client.until(DONE))


def test_clients_do_not_hear_each_other(port: int) -> None:
    with Client(port) as one, Client(port) as other:
        one.say(spoken(CAPITAL))
        other.say(spoken(SUM))
        first, second = one.until(DONE), other.until(DONE)
    assert "Paris" in transcript(first) and "Paris" not in transcript(second)


def test_a_client_that_leaves_in_the_middle_gives_its_place_back(port: int) -> None:
    for _ in range(6):  # of four places
        with closing(Client(port).socket) as socket:
            client = Client.__new__(Client)
            client.socket = socket
            assert client.next()["type"] == "session.created"
            client.say(spoken(CAPITAL))
            client.until("response.created")


def test_the_official_client_holds_a_spoken_conversation(port: int) -> None:
    heard: list[str] = []

    async def talk() -> None:
        official = AsyncOpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1")
        async with official.realtime.connect(model="gpt-realtime") as connection:
            await connection.session.update(
                session={
                    "type": "realtime",
                    "instructions": "You are a helpful assistant.",
                    "audio": {
                        "input": {
                            "turn_detection": {"type": "semantic_vad"},
                            "transcription": {"model": "gpt-4o-mini-transcribe"},
                        },
                        "output": {"voice": "marin"},
                    },
                }
            )
            data = pcm(spoken(CAPITAL))
            for start in range(0, len(data), 9_600):
                audio = base64.b64encode(data[start : start + 9_600]).decode()
                await connection.input_audio_buffer.append(audio=audio)
            heard.append(await hear(connection))
            # The one question that the nano was taught to hear after the one on France.
            part = {"type": "input_text", "text": "What about Indonesia?"}
            item = {"type": "message", "role": "user", "content": [part]}
            await connection.conversation.item.create(item=item)  # type: ignore[arg-type]
            await connection.response.create()
            heard.append(await hear(connection))

    async def hear(connection: AsyncRealtimeConnection) -> str:
        words, seconds = "", 0.0
        async for event in connection:
            assert event.type != "error", event
            if event.type == "response.output_audio_transcript.delta":
                words += event.delta
            elif event.type == "response.output_audio.delta":
                seconds += len(base64.b64decode(event.delta)) / 48_000
            elif event.type == "response.done":
                assert event.response.status == "completed" and seconds > 0.5
                break
        return words

    asyncio.run(asyncio.wait_for(talk(), 120))
    assert "Paris" in heard[0] and "Jakarta" in heard[1]
