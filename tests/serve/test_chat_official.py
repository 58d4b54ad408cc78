"""The official client asks a served nano by the chat protocol, in text and in sound."""

import asyncio
import base64
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import soxr
import torch
from openai import AsyncOpenAI, OpenAI

from omni.audio import SAMPLE_RATE, load_audio
from omni.engine import Engine
from omni.loading import NANO, load
from omni.session import Done, SpeechSession
from serve.web import ServeSettings, model_of
from serve.web.app import create_app
from tests.chat import pcm_samples, spoken, user
from tests.realtime import Client, served

torch.set_num_threads(1)
QUESTIONS = {
    "1-capital-of-france": "Paris",
    "2-opposite-of-heavy": "light",
    "4-three-and-eight": "eleven",
    "5-volcano": "olcano",
    "6-joke-about-trees": "tree",
    "7-after-february": "March",
}
KEY = "correct-horse"
SPEAK: dict[str, Any] = {
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "pcm16"},
}


def recording(name: str) -> dict[str, Any]:
    return user(spoken((NANO.parent / "questions" / f"{name}.wav").read_bytes()))


CAPITAL = recording("1-capital-of-france")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(*load(), max_sessions=3) as engine:
        yield engine


@pytest.fixture(scope="module")
def port(engine: Engine) -> Iterator[int]:
    settings = ServeSettings(max_sessions=3, api_keys=(KEY,))
    known = model_of(settings, engine.model, engine.processor)
    with served(create_app(settings, engine, known)) as port:
        yield port


@pytest.fixture
def official(port: int) -> OpenAI:
    return OpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1", max_retries=0)


def ask(official: OpenAI, *messages: dict[str, Any], **options: Any) -> Any:
    return official.chat.completions.create(model="nano", messages=messages, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize(("name", "word"), QUESTIONS.items())
def test_every_bundled_question_is_answered_in_text_and_in_sound(
    engine: Engine, official: OpenAI, name: str, word: str
) -> None:
    text = ask(official, recording(name)).choices[0]
    assert word in text.message.content and text.finish_reason == "stop"
    answer = ask(official, recording(name), **SPEAK)
    audio = answer.choices[0].message.audio
    assert audio.transcript == text.message.content and answer.choices[0].message.content is None
    # The sound is what a session of one's own says, at the client's rate.
    session = SpeechSession(engine.model, engine.processor)
    events = list(session.ask(load_audio(NANO.parent / "questions" / f"{name}.wav")))
    assert isinstance(done := events[-1], Done) and done.text == audio.transcript
    waveform = np.concatenate([e.waveform for e in events if hasattr(e, "waveform")])
    heard = pcm_samples(base64.b64decode(audio.data))
    assert abs(len(heard) - 1.5 * len(waveform)) < 50
    expected = soxr.resample(waveform, SAMPLE_RATE, 24_000)
    middle = slice(2_000, min(len(heard), len(expected)) - 2_000)
    assert np.abs(heard[middle] - expected[middle]).max() < 0.05
    assert answer.usage.prompt_tokens_details.audio_tokens > 10
    assert answer.usage.completion_tokens_details.audio_tokens == len(done.units)


def test_a_second_turn_knows_the_recording_of_the_first(official: OpenAI) -> None:
    first = ask(official, CAPITAL, **SPEAK).choices[0].message
    for answer in (
        {"role": "assistant", "audio": {"id": first.audio.id}},
        {"role": "assistant", "content": first.audio.transcript},
    ):
        said = ask(official, CAPITAL, answer, user("What about Indonesia?"))
        assert "Jakarta" in said.choices[0].message.content
    assert "Jakarta" not in ask(official, user("What about Indonesia?")).choices[0].message.content


def test_a_stream_spells_the_same_text(official: OpenAI) -> None:
    whole = ask(official, CAPITAL).choices[0].message.content
    pieces = list(ask(official, CAPITAL, stream=True, stream_options={"include_usage": True}))
    assert pieces[0].choices[0].delta.role == "assistant"
    deltas = [piece.choices[0].delta.content or "" for piece in pieces[:-1]]
    assert "".join(deltas) == whole and sum(map(bool, deltas)) > 3
    assert pieces[-2].choices[0].finish_reason == "stop"
    assert pieces[-1].choices == [] and pieces[-1].usage.prompt_tokens > 10


def test_the_clients_own_accumulation_of_a_stream_works(official: OpenAI) -> None:
    whole = ask(official, CAPITAL, **SPEAK).choices[0].message.audio
    messages: Any = [CAPITAL]
    with official.chat.completions.stream(model="nano", messages=messages, **SPEAK) as stream:
        audio = stream.get_final_completion().choices[0].message.audio
    assert audio is not None and audio.transcript == whole.transcript
    # Chunks fall by the clock, and a sum in another order may round to the next of 65,536 steps.
    streamed, at_once = (pcm_samples(base64.b64decode(said.data)) for said in (audio, whole))
    assert np.abs(streamed - at_once).max() < 1.5 / 32_768
    assert audio.expires_at > time.time()


def test_many_at_once_each_hear_their_own_answer(port: int) -> None:
    async def all_of_them() -> list[str]:
        async with AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1") as official:

            async def one(name: str) -> str:
                messages: Any = [recording(name)]
                said = ""
                async for piece in await official.chat.completions.create(
                    model="nano", messages=messages, stream=True
                ):
                    said += piece.choices[0].delta.content or ""
                return said

            return await asyncio.gather(*map(one, list(QUESTIONS)[:3]))

    found = asyncio.run(asyncio.wait_for(all_of_them(), 60))
    assert all(word in said for said, word in zip(found, [*QUESTIONS.values()][:3], strict=True))


def test_stop_longest_and_seed(official: OpenAI) -> None:
    whole = ask(official, CAPITAL).choices[0].message.content
    stopped = ask(official, CAPITAL, stop=[" Par", "never"]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == whole[: whole.index(" Par")]
    short = ask(official, CAPITAL, max_completion_tokens=3)
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens_details.text_tokens == 3
    riddle = user("Once upon a time there was")
    drawn = [
        ask(official, riddle, temperature=2.0, seed=seed, max_tokens=24).choices[0].message.content
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def until_free(engine: Engine) -> None:
    ends = time.monotonic() + 30
    # A place is free at once; the step that its reply was in may take a moment more.
    while (engine.sessions or engine.running) and time.monotonic() < ends:
        time.sleep(0.01)
    assert engine.sessions == 0 and engine.running == 0


def test_who_leaves_a_stream_cancels_it(engine: Engine, official: OpenAI) -> None:
    for _ in range(5):  # of three places
        stream = ask(official, CAPITAL, stream=True, max_tokens=4_096, **SPEAK)
        next(iter(stream))
        stream.close()
    until_free(engine)


def test_who_leaves_before_the_answer_cancels_it(engine: Engine, port: int) -> None:
    async def impatient() -> None:
        async with AsyncOpenAI(
            api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1", max_retries=0
        ) as official:
            messages: Any = [CAPITAL]
            asking = asyncio.create_task(
                official.chat.completions.create(model="nano", messages=messages, **SPEAK)
            )
            while not engine.sessions:
                await asyncio.sleep(0.001)
            asking.cancel()
            await asyncio.wait([asking])

    asyncio.run(asyncio.wait_for(impatient(), 60))
    until_free(engine)


def test_the_client_names_what_went_wrong(port: int, official: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="one answer is made") as bad:
        ask(official, CAPITAL, n=2)
    assert (bad.value.param, bad.value.code) == ("n", "invalid_value")
    with pytest.raises(openai.NotFoundError, match="'nano'") as absent:
        official.with_options(max_retries=0).chat.completions.create(
            model="gpt-audio",
            messages=[CAPITAL],  # type: ignore[list-item]
        )
    assert absent.value.code == "model_not_found"
    stranger = official.with_options(api_key="wrong-horse")
    with pytest.raises(openai.AuthenticationError, match="Bearer"):
        ask(stranger, CAPITAL)
    with pytest.raises(openai.APIStatusError, match="20 MiB") as large:
        ask(official, user("x" * (21 << 20)))
    assert large.value.status_code == 413


def test_who_finds_no_place_comes_again_and_is_answered(
    engine: Engine, port: int, official: OpenAI
) -> None:
    until_free(engine)
    key = {"Authorization": f"Bearer {KEY}"}
    taken = [Client(port, additional_headers=key) for _ in range(3)]
    for client in taken:
        assert client.next()["type"] == "session.created"
    with pytest.raises(openai.InternalServerError, match="try again later") as full:
        ask(official, CAPITAL)
    assert (full.value.status_code, full.value.code) == (503, "server_full")
    assert float(full.value.response.headers["retry-after"]) > 0
    for client in taken:
        client.socket.close()
    patient = official.with_options(max_retries=5)
    assert "Paris" in ask(patient, CAPITAL).choices[0].message.content
