"""One client whose microphone is always open: 20 ms of sound every 20 ms, and a question now and
then, which it ends itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from omni.audio import SAMPLE_RATE
from serve.bench.load import FRAME_S, Spoken

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

PROBE_EVERY = 50  # frames
NO_ITEM = "no such item"  # what a probe asks for
NO_ANSWER = "no answer in time"
LAST_WORDS_S = 5.0  # for answers that have not come when the time is over
OPEN_S = 60.0
# A voice is listened for in every frame and ends no turn: its silence is longer than any pause
# here. So turns end alike with and without it, and what differs is what hearing costs.
HEARING = {
    "type": "server_vad", "silence_duration_ms": 10_000, "create_response": False,
    "interrupt_response": False,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cycle:
    """A question and the silence behind it, as messages of 20 ms each, again and again. The
    question ends with the first `frames` of them."""

    messages: Sequence[str]
    frames: int

    @classmethod
    def of(cls, samples: np.ndarray, seconds: float) -> Cycle:
        """samples: [n] float32, 16 kHz; seconds: of the whole, no shorter than the question."""
        spoken = Spoken.of(samples, manual=True)
        behind = max(0, round(seconds / FRAME_S) - spoken.frames)
        silent = Spoken.of(np.zeros(round(FRAME_S * SAMPLE_RATE), np.float32), manual=True)
        return cls([*spoken.messages, *[silent.messages[0]] * behind], spoken.frames)


@dataclass
class Found:
    """What one client saw. All times in seconds.

    first_delta: from a question's end to the first sound of its answer. append: from a frame to
    the server's having taken it, of every 50th. late: by how much each of our frames was late.
    asked: questions; failed: what the server said where
    something failed, and NO_ANSWER.
    """

    first_delta: list[float] = field(default_factory=list[float])
    append: list[float] = field(default_factory=list[float])
    late: list[float] = field(default_factory=list[float])
    asked: int = 0
    failed: list[str] = field(default_factory=list[str])


@dataclass
class ProtocolClient:
    """hears: whether the server listens for a voice in the sound."""

    url: str
    cycle: Cycle
    hears: bool
    found: Found = field(default_factory=Found, init=False)
    _asked_at: float | None = field(default=None, init=False)  # None: no answer is awaited
    _waits_for_sound: bool = field(default=False, init=False)
    _probed_at: dict[str, float] = field(default_factory=dict[str, float], init=False)

    async def talk(
        self, opened: asyncio.Barrier, seconds: float, *, position: int, phase: float
    ) -> None:
        """Connect, wait for the others, then send sound for so long.

        position: of the cycle's frame that comes first; phase: by how much of a frame this client
        begins behind the others, 0..1. A connection that fails or ends is told in `found`.
        """
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, WebSocketException

        try:
            async with connect(self.url, max_size=None, open_timeout=OPEN_S) as socket:
                await self._begin(socket)
                await opened.wait()
                listening = asyncio.create_task(self._listen(socket))
                try:
                    await self._speak(socket, seconds, position, phase)
                    await self._await_last()
                finally:
                    listening.cancel()
                    await asyncio.wait([listening])
                    _ = listening.cancelled() or listening.exception()
        except asyncio.BrokenBarrierError:
            return  # another client failed before the start, and said why
        except (OSError, WebSocketException) as error:
            # Who was closed before it had read why is told by the reason that came with the end.
            close = error.rcvd if isinstance(error, ConnectionClosed) else None
            why = close.reason if close is not None else ""
            self.found.failed.append(why or str(error) or type(error).__name__)
            await opened.abort()

    async def _begin(self, socket: ClientConnection) -> None:
        detection = HEARING if self.hears else None
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        await socket.send(_message("session.update", session=session))
        while (event := json.loads(await socket.recv()))["type"] != "session.updated":
            if event["type"] == "error":
                raise OSError(event["error"]["code"])

    async def _speak(
        self, socket: ClientConnection, seconds: float, position: int, phase: float
    ) -> None:
        now = asyncio.get_running_loop().time
        messages, began = self.cycle.messages, now() + phase * FRAME_S
        whole = position == 0  # a question that began before the start is not asked
        for number in range(1, round(seconds / FRAME_S) + 1):
            due = began + number * FRAME_S
            await asyncio.sleep(due - now())
            self.found.late.append(max(0.0, now() - due))
            if number % PROBE_EVERY == 0:
                self._probed_at[str(number)] = now()
            await socket.send(messages[position])
            if number % PROBE_EVERY == 0:
                # Messages of a session are handled in their order: who has answered this one has
                # taken the frame before it.
                retrieve = "conversation.item.retrieve"
                await socket.send(_message(retrieve, item_id=NO_ITEM, event_id=str(number)))
            position += 1
            if position == self.cycle.frames and whole:
                await self._ask(socket)
            if position == len(messages):
                position, whole = 0, True

    async def _ask(self, socket: ClientConnection) -> None:
        self.found.asked += 1
        if self._asked_at is not None:  # it is far behind; another question would only be refused
            self.found.failed.append(NO_ANSWER)
            return
        self._asked_at, self._waits_for_sound = asyncio.get_running_loop().time(), True
        await socket.send(_message("input_audio_buffer.commit"))
        await socket.send(_message("response.create"))

    async def _listen(self, socket: ClientConnection) -> None:
        now = asyncio.get_running_loop().time
        while True:
            event = json.loads(await socket.recv())
            kind = event["type"]
            if kind == "response.output_audio.delta" and self._waits_for_sound:
                assert self._asked_at is not None
                self.found.first_delta.append(now() - self._asked_at)
                self._waits_for_sound = False
            elif kind == "response.done":
                if (status := event["response"]["status"]) != "completed":
                    self.found.failed.append(status)
                self._asked_at, self._waits_for_sound = None, False
            elif kind == "error":
                probed = self._probed_at.pop(event["error"]["event_id"] or "", None)
                if probed is None:
                    self.found.failed.append(event["error"]["code"])
                    self._asked_at, self._waits_for_sound = None, False
                else:
                    self.found.append.append(now() - probed)

    async def _await_last(self) -> None:
        """What was asked or probed last may still come."""
        now = asyncio.get_running_loop().time
        until = now() + LAST_WORDS_S
        while (self._asked_at is not None or self._probed_at) and now() < until:
            await asyncio.sleep(FRAME_S)
        missing = len(self._probed_at) + (self._asked_at is not None)
        self.found.failed += [NO_ANSWER] * missing


def _message(type: str, **fields: Any) -> str:
    return json.dumps({"type": type, **fields})
