"""openai-agents holds a conversation with a served nano, by the realtime and the chat protocol."""

import asyncio
from typing import Any

import pytest
from microphones import CAPITAL, INDONESIA, JOKE, KEY, WAIT_S, held, microphone, until

pytestmark = pytest.mark.timeout(5 * WAIT_S)


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
