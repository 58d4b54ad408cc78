"""livekit holds a conversation with a served nano, by the realtime and by the chat protocol."""

import asyncio
from typing import Any

import aiohttp
import pytest
from microphones import (
    CAPITAL,
    ELEPHANT,
    INDONESIA,
    JOKE,
    KEY,
    RATE,
    WAIT_S,
    held,
    microphone,
    pcm,
    until,
)

pytestmark = pytest.mark.timeout(5 * WAIT_S)


class Heard:
    """What a session of livekit's says, and what goes wrong in it."""

    def __init__(self, session: Any) -> None:
        self.replies: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.errors: list[Any] = []
        self._tasks: set[asyncio.Task[None]] = set()
        session.on("generation_created", self._begin)
        session.on("error", lambda event: self.errors.append(event.error))
        for name in ("input_speech_started", "input_speech_stopped", "session_reconnected"):
            session.on(name, lambda _, name=name: self.names.append(name))

    def _begin(self, generation: Any) -> None:
        task = asyncio.create_task(self._follow(generation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, generation: Any) -> None:
        reply = {"id": None, "words": "", "ms": 0.0, "ended": False}
        self.replies.append(reply)
        async for message in generation.message_stream:
            reply["id"] = message.message_id

            async def read(message: Any = message) -> None:
                async for piece in message.text_stream:
                    reply["words"] += piece

            reading = asyncio.create_task(read())
            async for frame in message.audio_stream:
                reply["ms"] += 1e3 * frame.duration
            await reading
        reply["ended"] = True

    @property
    def last(self) -> dict[str, Any]:
        return self.replies[-1]

    async def ended(self, count: int) -> None:
        await until(lambda: sum(reply["ended"] for reply in self.replies) >= count)


def frame_of(data: bytes) -> Any:
    from livekit import rtc

    return rtc.AudioFrame(
        data=data, sample_rate=RATE, num_channels=1, samples_per_channel=len(data) // 2
    )


def livekit_model(port: int, http: aiohttp.ClientSession, **options: Any) -> Any:
    from livekit.plugins import openai

    return openai.realtime.RealtimeModel(
        base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, http_session=http, **options
    )


def test_livekit_with_its_defaults(port: int) -> None:
    from livekit.agents import llm

    async def conversation() -> None:
        async with aiohttp.ClientSession() as http:
            session = livekit_model(port, http).session()
            heard = Heard(session)

            async def push(data: bytes) -> None:
                session.push_audio(frame_of(data))

            async with microphone(push) as user:
                user.say(CAPITAL)
                await until(lambda: heard.replies and heard.last["ms"])
                user.say(JOKE)
                await until(lambda: heard.names.count("input_speech_started") == 2)
                session.truncate(
                    message_id=heard.replies[0]["id"], modalities=["audio", "text"],
                    audio_end_ms=300,
                )  # fmt: skip
                await heard.ended(2)
                assert heard.last["words"] and heard.last["ms"] > 500
                # Its history, edited: all but one question and an answer is gone.
                context = llm.ChatContext.empty()
                context.add_message(role="user", content="What is the capital of France?")
                context.add_message(role="assistant", content="The capital of France is Paris.")
                context.add_message(role="user", content=INDONESIA)
                await session.update_chat_ctx(context)
                generation = await session.generate_reply()
                assert generation.user_initiated
                await heard.ended(3)
                assert "Jakarta" in heard.last["words"] and heard.last["ms"] > 500
                # Cancelled by hand, and nothing hangs.
                session.generate_reply(instructions="Tell me a joke about trees.")
                await until(lambda: len(heard.replies) == 4 and heard.last["id"])
                session.interrupt()
                session.interrupt()  # nothing to cancel
                await heard.ended(4)
                await session.update_chat_ctx(llm.ChatContext.empty())
                user.say(ELEPHANT)
                await heard.ended(5)
                assert "lephant" in heard.last["words"]
            assert heard.errors == []
            await session.aclose()

    held(conversation())


def test_livekit_comes_back_with_its_history(port: int) -> None:
    """It renews every connection after some minutes; here after seconds."""

    async def conversation() -> None:
        async with aiohttp.ClientSession() as http:
            session = livekit_model(port, http, max_session_duration=6.0).session()
            heard = Heard(session)

            async def push(data: bytes) -> None:
                session.push_audio(frame_of(data))

            async with microphone(push) as user:
                user.say(ELEPHANT)
                await heard.ended(1)
                assert "lephant" in heard.last["words"]
                await until(lambda: "session_reconnected" in heard.names)
                await until(lambda: len(session.chat_ctx.items) > 0)
                user.say(CAPITAL)
                await heard.ended(2)
                assert heard.last["words"] and heard.last["ms"] > 500
            assert heard.errors == []
            await session.aclose()

    held(conversation())


def test_livekit_ends_turns_itself(port: int) -> None:
    async def conversation() -> None:
        async with aiohttp.ClientSession() as http:
            session = livekit_model(port, http, turn_detection=None).session()
            heard = Heard(session)
            for count, (name, word) in enumerate([(ELEPHANT, "lephant"), (CAPITAL, "Paris")], 1):
                session.push_audio(frame_of(pcm(name)))
                session.commit_audio()
                await session.generate_reply()
                await heard.ended(count)
                assert word in heard.last["words"]
            session.clear_audio()
            assert heard.errors == []
            await session.aclose()

    held(conversation())


def test_livekit_by_the_chat_protocol(port: int) -> None:
    from livekit.agents import llm
    from livekit.plugins import openai

    async def conversation() -> None:
        model = openai.LLM(model="nano", api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1")
        context = llm.ChatContext.empty()
        context.add_message(role="system", content="You answer.")
        context.add_message(role="user", content="What is the capital of Italy?")
        words = ""
        async with model.chat(chat_ctx=context) as stream:
            async for piece in stream:
                words += (piece.delta.content or "") if piece.delta else ""
        assert "Rome" in words

    held(conversation())
