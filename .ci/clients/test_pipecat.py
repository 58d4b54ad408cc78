"""pipecat holds a conversation with a served nano, whoever ends the turns."""

import asyncio
from typing import Any

import pytest
from microphones import CAPITAL, JOKE, KEY, RATE, WAIT_S, held, microphone, until

pytestmark = pytest.mark.timeout(5 * WAIT_S)


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
