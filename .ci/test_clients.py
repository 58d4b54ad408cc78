"""Clients that others have made hold a conversation with a served nano, interrupt it, and go on.

Run by `make test-clients`, apart from the other tests: the clients have an environment of their
own, and the server runs in the project's, as `omni-serve run`, which OMNI_SERVE names. Everybody
speaks in real time, as a microphone does.
"""

import asyncio
import os
import re
import shlex
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile
import soxr

ROOT = Path(__file__).parent.parent
QUESTIONS = ROOT / "omni" / "nano" / "questions"
# The nano is sure of an answer where nothing has been said before. Of later turns what is asked for
# is an answer in words and sound, whole; and of this one in writing, after France alone, Jakarta.
CAPITAL, ELEPHANT, JOKE = "1-capital-of-france", "3-elephant", "6-joke-about-trees"
INDONESIA = "What about Indonesia?"
KEY = "correct-horse"
RATE = 24_000
PIECE_S = 0.1
WAIT_S = 120  # before something is taken to hang: the machine may be busy

pytestmark = pytest.mark.timeout(5 * WAIT_S)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a server that a user has started."""
    command = shlex.split(os.environ.get("OMNI_SERVE", "omni-serve"))
    server = subprocess.Popen(
        [*command, "run", "--port", "0", "--api-key", KEY, "--threads", "1"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        found = None
        for line in server.stdout:
            if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                break
        assert found is not None, server.stderr and server.stderr.read()
        yield int(found[1])
        assert server.poll() is None
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=30)
    assert "Traceback" not in errors, errors


def pcm(name: str) -> bytes:
    """A bundled question, as the protocol's 16-bit samples at 24 kHz."""
    samples, rate = soundfile.read(QUESTIONS / f"{name}.wav", dtype="float32")
    wire = soxr.resample(samples, rate, RATE)
    return (np.clip(wire, -1, 1) * 32_767).astype("<i2").tobytes()


class Microphone:
    """Always open: what is said, and silence between."""

    def __init__(self, push: Callable[[bytes], Awaitable[None]]) -> None:
        self._push = push
        self.waiting = bytearray()

    def say(self, name: str) -> None:
        self.waiting += pcm(name)

    async def run(self) -> None:
        size = 2 * round(PIECE_S * RATE)
        due = time.monotonic()
        while True:
            piece = bytes(self.waiting[:size]).ljust(size, b"\0")
            del self.waiting[:size]
            await self._push(piece)
            due += PIECE_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))


@asynccontextmanager
async def microphone(push: Callable[[bytes], Awaitable[None]]) -> AsyncIterator[Microphone]:
    opened = Microphone(push)
    task = asyncio.create_task(opened.run())
    try:
        yield opened
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


async def until(condition: Callable[[], Any]) -> None:
    """Raises AssertionError where it does not become true."""
    ends = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends, "it has not come to that"
        await asyncio.sleep(0.01)


def held(conversation: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(conversation, 3 * WAIT_S))


# ------------------------------------------------------------------------------ openai-agents


def test_openai_agents(port: int) -> None:
    from agents.realtime import RealtimeAgent, RealtimeRunner
    from agents.realtime.model import RealtimeModelConfig

    async def conversation() -> None:
        agent = RealtimeAgent(name="Guide", instructions="You answer questions.")
        config: RealtimeModelConfig = {
            "api_key": KEY, "url": f"ws://127.0.0.1:{port}/v1/realtime?model=nano",
        }  # fmt: skip
        words: dict[str, str] = {}
        sounds: dict[str, int] = {}
        names: list[str] = []
        errors: list[Any] = []
        async with await RealtimeRunner(agent).run(model_config=config) as session:

            async def listen() -> None:
                async for event in session:
                    names.append(event.type)
                    if event.type == "error":
                        errors.append(event.error)
                    elif event.type == "audio":
                        sounds[event.item_id] = sounds.get(event.item_id, 0) + len(event.audio.data)
                    elif event.type == "raw_model_event":
                        if event.data.type == "transcript_delta":
                            said = words.get(event.data.item_id, "")
                            words[event.data.item_id] = said + event.data.delta
                        elif event.data.type == "turn_ended":
                            names.append("turn_ended")

            listening = asyncio.create_task(listen())
            async with microphone(session.send_audio) as user:
                user.say(CAPITAL)
                await until(lambda: "Paris" in "".join(words.values()))
                user.say(JOKE)  # into the answer
                await until(lambda: "audio_interrupted" in names)
                await until(lambda: names.count("turn_ended") == 2)
                await session.send_message(INDONESIA)
                await until(lambda: names.count("turn_ended") == 3)
            listening.cancel()
            history = session._history
        assert errors == []
        assert len(sounds) == len(words) == 3 and all(words.values())
        said = [item for item in history if item.type == "message" and item.role == "assistant"]
        assert len(said) == 3

    held(conversation())


# ------------------------------------------------------------------------------------ livekit


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


# ------------------------------------------------------------------------------------ pipecat


@pytest.mark.parametrize("manual", [False, True], ids=["server's turns", "client's turns"])
def test_pipecat(port: int, manual: bool) -> None:
    from pipecat.frames import frames
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineWorker
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.services.openai.realtime import events
    from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
    from pipecat.workers.runner import WorkerRunner

    said: list[str] = [""]
    sound: list[int] = [0]
    kinds: list[str] = []
    items: list[str] = []
    errors: list[str] = []

    class Loudspeaker(FrameProcessor):
        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            kinds.append(type(frame).__name__)
            if isinstance(frame, frames.TTSTextFrame):
                said[-1] += frame.text
            elif isinstance(frame, frames.TTSAudioRawFrame):
                sound[-1] += len(frame.audio)
            elif isinstance(frame, frames.TTSStartedFrame):
                said.append("")
                sound.append(0)
            await self.push_frame(frame, direction)

    async def conversation() -> None:
        properties = events.SessionProperties()
        if manual:
            properties.audio = events.AudioConfiguration(
                input=events.AudioInput(turn_detection=False)
            )
        service = OpenAIRealtimeLLMService(
            api_key=KEY, base_url=f"ws://127.0.0.1:{port}/v1/realtime",
            settings=OpenAIRealtimeLLMService.Settings(
                model="nano", system_instruction="You answer questions.",
                session_properties=properties,
            ),
        )  # fmt: skip
        context = LLMContext([{"role": "user", "content": "What is the capital of Italy?"}])
        before, after = LLMContextAggregatorPair(context)
        worker = PipelineWorker(
            Pipeline([before, service, Loudspeaker(), after]), cancel_on_idle_timeout=False
        )
        ready = asyncio.Event()

        @worker.event_handler("on_pipeline_started")
        async def started(worker: Any, frame: Any) -> None:
            ready.set()

        @service.event_handler("on_conversation_item_created")
        async def created(service: Any, item_id: str, item: Any) -> None:
            items.append(item_id)

        @service.event_handler("on_error")
        async def failed(service: Any, error: Any) -> None:
            errors.append(str(error.error))

        runner = WorkerRunner()
        await runner.add_workers(worker)
        running = asyncio.create_task(runner.run())
        try:
            await asyncio.wait_for(ready.wait(), WAIT_S)
            await talk(worker, service)
        finally:
            await worker.cancel()
            await asyncio.wait([running], timeout=WAIT_S)

    async def talk(worker: Any, service: Any) -> None:
        async def push(data: bytes) -> None:
            await worker.queue_frame(
                frames.InputAudioRawFrame(audio=data, sample_rate=RATE, num_channels=1)
            )

        async with microphone(push) as user:

            async def say(name: str) -> None:
                user.say(name)
                if manual:  # what local turn detection does
                    await worker.queue_frame(frames.InterruptionFrame())
                    await worker.queue_frame(frames.UserStartedSpeakingFrame())
                    await until(lambda: not user.waiting)
                    await worker.queue_frame(frames.UserStoppedSpeakingFrame())

            async def answered(turns: int) -> None:
                await until(lambda: len(said) > turns and sound[-1])

            await worker.queue_frame(frames.LLMRunFrame())
            await until(lambda: kinds.count("LLMFullResponseEndFrame"))
            assert "Rome" in said[-1]
            for name in (CAPITAL, JOKE):  # the second one into the answer to the first
                turns = len(said)
                await say(name)
                await answered(turns)
            await until(lambda: said[-1].endswith((".", "?", "!")))
            assert await service.retrieve_conversation_item(items[-1])
            with pytest.raises(Exception, match="no such item"):
                await service.retrieve_conversation_item("nothing")
            told = [{"role": "assistant", "content": "I have said so."}]
            await worker.queue_frame(frames.LLMMessagesAppendFrame(messages=told, run_llm=False))
            turns = len(said)
            await say(CAPITAL)
            await answered(turns)
        assert errors == []
        if not manual:
            assert "InterruptionFrame" in kinds and "UserStartedSpeakingFrame" in kinds

    held(conversation())


# ------------------------------------------------------------- the chat protocol, by the same


def test_openai_agents_by_the_chat_protocol(port: int) -> None:
    from agents import (
        Agent,
        OpenAIChatCompletionsModel,
        Runner,
        function_tool,
        set_tracing_disabled,
    )
    from openai import AsyncOpenAI

    set_tracing_disabled(True)

    @function_tool
    def weather(city: str) -> str:
        """How the weather is."""
        return "warm"

    async def conversation() -> None:
        client = AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1")
        model = OpenAIChatCompletionsModel(model="nano", openai_client=client)
        agent = Agent(name="Guide", instructions="You answer.", model=model, tools=[weather])
        result = await Runner.run(agent, "What is the capital of Italy?")
        assert "Rome" in result.final_output
        streamed = Runner.run_streamed(agent, "What is the capital of France?")
        async for _ in streamed.stream_events():
            pass
        assert "Paris" in streamed.final_output

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
