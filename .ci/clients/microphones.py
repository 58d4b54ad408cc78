"""What clients that others have made say to a served nano, and how it reaches their microphones.

For `make test-clients`, whose environment has the clients and none of the project's packages. It
lies here and not in tests/: what others install may have a `tests` of its own. Everybody speaks in
real time, as a microphone does.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = ROOT / "omni" / "nano" / "questions"
# The nano is sure of an answer where nothing has been said before. Of later turns what is asked for
# is an answer in words and sound, whole; and of this one in writing, after France alone, Jakarta.
CAPITAL, ELEPHANT, JOKE = "1-capital-of-france", "3-elephant", "6-joke-about-trees"
INDONESIA = "What about Indonesia?"
KEY = "correct-horse"
RATE = 24_000
PIECE_S = 0.1
WAIT_S = 120  # before something is taken to hang: the machine may be busy


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
