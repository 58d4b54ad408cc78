"""A client who interrupts answers, beside others who talk, and measures how soon it is heard."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from omni.audio import SAMPLE_RATE
from omni.files import UserError
from serve.bench.load import FRAME_S, Client, Playout, Spoken, percentiles

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

QUESTION = "Tell me what the capital of France is, and what the capital of Italy is."
DETECTION = {"type": "server_vad", "create_response": False}
QUIET_FRAMES = 10  # before the voice
LOUD = 0.02  # of a recording's peak, at which its voice begins
ANSWER_S = 60.0


@dataclass
class Interrupted:
    """Seconds. heard: from a voice's onset to `speech_started`; cancelled: from `response.cancel`
    to the response's end, by which its place in the engine is free. too_late: cancels that came
    when the answer had been made. load: average of one minute, at the end."""

    heard: list[float] = field(default_factory=list[float])
    cancelled: list[float] = field(default_factory=list[float])
    too_late: int = 0
    load: float = 0.0

    def cells(self) -> list[list[str]]:
        """The heading, and a line for each of the two."""
        lines = [["", "times", "p50, ms", "p95", "p99"]]
        for name, seconds in (
            ("a voice, until speech_started", self.heard),
            ("response.cancel, until response.done", self.cancelled),
        ):
            found = percentiles([1e3 * each for each in seconds])
            lines.append([name, str(len(seconds)), *(f"{ms:.0f}" for ms in found.values())])
        return lines


def onset_s(samples: np.ndarray, rate: int) -> float:
    """When the voice of a recording begins. samples: [n]."""
    level = np.abs(samples)
    return float(np.argmax(level >= LOUD * level.max())) / rate


@dataclass(frozen=True, kw_only=True)
class Interrupter:
    """A client who interrupts answers, by voice and by message. voices: each [n] float32, 16 kHz;
    they take turns."""

    url: str
    voices: Sequence[np.ndarray]
    times: int

    async def interrupt(self, found: Interrupted) -> None:
        """Add what is measured to `found`. Raises UserError where the server can't go on."""
        from websockets.asyncio.client import connect

        async with connect(self.url, max_size=None) as socket:
            session = {"type": "realtime", "audio": {"input": {"turn_detection": DETECTION}}}
            await _send(socket, "session.update", session=session)
            for number in range(self.times):
                voice = self.voices[number % len(self.voices)]
                found.heard.append(await self._by_voice(socket, voice))
                seconds = await self._by_message(socket)
                if seconds is None:
                    found.too_late += 1
                else:
                    found.cancelled.append(seconds)

    async def _by_voice(self, socket: ClientConnection, voice: np.ndarray) -> float:
        """Seconds from the voice's onset to `speech_started`. It speaks to its end, and is silent
        for a while, as people are: a detector's memory of a voice that was cut lasts."""
        now = asyncio.get_running_loop().time
        quiet = np.zeros(round(QUIET_FRAMES * FRAME_S * SAMPLE_RATE), np.float32)
        spoken = Spoken.of(np.concatenate([quiet, voice, quiet, quiet]), manual=True)
        await _ask(socket)
        await _until(socket, "response.output_audio.delta")
        began = now()
        speaking = asyncio.create_task(_speak(socket, spoken.messages, began))
        await _until(socket, "input_audio_buffer.speech_started")
        seconds = now() - began - QUIET_FRAMES * FRAME_S - onset_s(voice, SAMPLE_RATE)
        await speaking
        await _send(socket, "input_audio_buffer.clear")
        await _until(socket, "input_audio_buffer.cleared")
        return seconds

    async def _by_message(self, socket: ClientConnection) -> float | None:
        """Seconds from the cancel to the end of the response; None if it had ended before."""
        now = asyncio.get_running_loop().time
        await _ask(socket)
        await _until(socket, "response.output_audio.delta")
        began = now()
        await _send(socket, "response.cancel")
        done = await _until(socket, "response.done")
        return now() - began if done["response"]["status"] == "cancelled" else None


async def _ask(socket: ClientConnection) -> None:
    part = {"type": "input_text", "text": QUESTION}
    item = {"type": "message", "role": "user", "content": [part]}
    await _send(socket, "conversation.item.create", item=item)
    await _send(socket, "response.create")


async def _speak(socket: ClientConnection, messages: Sequence[str], began: float) -> None:
    """In real time: a frame is sent when its last sample has been spoken."""
    now = asyncio.get_running_loop().time
    for number, message in enumerate(messages, 1):
        await asyncio.sleep(began + number * FRAME_S - now())
        await socket.send(message)


async def _send(socket: ClientConnection, type: str, **fields: Any) -> None:
    await socket.send(json.dumps({"type": type, **fields}))


async def _until(socket: ClientConnection, type: str) -> dict[str, Any]:
    async with asyncio.timeout(ANSWER_S):
        async for event in _events(socket):
            if event["type"] == type:
                return event
    raise UserError(f"the server closed before {type}")


async def _events(socket: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    async for text in socket:
        event = json.loads(text)
        # Where the answer was whole before the cancel, there is nothing to cancel.
        if event["type"] == "error" and event["error"]["code"] != "response_cancel_not_active":
            raise UserError(f"the server says: {event['error']['message']}")
        yield event


async def measure(
    url: str, questions: Sequence[np.ndarray], *, others: int, times: int
) -> Interrupted:
    """One client interrupts so often, while others hold conversations by voice."""
    found = Interrupted()
    spoken = [Spoken.of(question, manual=False) for question in questions]
    talker = Client(
        url=url, api_key=None, manual=False, playout=lambda: Playout(0.06, 0.02, random.Random(0))
    )
    talking = [
        asyncio.create_task(talker.converse([*spoken[first % len(spoken) :], *spoken] * times))
        for first in range(others)
    ]
    await asyncio.sleep(2.0 if others else 0.0)  # until they all talk
    try:
        await Interrupter(url=url, voices=questions, times=times).interrupt(found)
    finally:
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
    found.load = os.getloadavg()[0]
    return found
