"""One client: speaks its questions in real time, and listens to each answer to its end."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from serve.bench.load.playout import Playout
from serve.talk import WIRE_RATE, to_wire

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

FRAME_S = 0.02
FRAME = round(FRAME_S * WIRE_RATE)
# Sent behind a question whose end the server is to find: its 0.5 s of silence, and a little more.
# Always all of it, so that the server hears the same whenever its answer comes.
SILENCE_S = 0.8
SILENCE_MS = 500
ANSWER_S = 120.0
DETECTION = {"type": "server_vad", "silence_duration_ms": SILENCE_MS}
NOT_WRONG = ("rate_limit_exceeded",)  # errors after which all goes on


@dataclass(frozen=True, eq=False)
class Spoken:
    """A question as messages of 20 ms each. The first `frames` hold it, the others silence."""

    messages: Sequence[str]
    frames: int

    @classmethod
    def of(cls, samples: np.ndarray, *, manual: bool) -> Spoken:
        """samples: [n] float32, 16 kHz. manual: the client itself says where it ends."""
        wire = to_wire(samples)
        frames = -(-len(wire) // FRAME)
        behind = 0 if manual else round(SILENCE_S / FRAME_S)
        padded = np.zeros((frames + behind) * FRAME, "<i2")
        padded[: len(wire)] = wire
        pieces = (piece.tobytes() for piece in padded.reshape(-1, FRAME))
        messages = [
            _message("input_audio_buffer.append", audio=base64.b64encode(piece).decode())
            for piece in pieces
        ]
        return cls(messages, frames)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One answer. first_audio_s: from the question's last sample; None: it had no sound, or came
    not at all. late_s: of the question's last frame, which tells whether this client kept up.
    failure: what the server said where the answer is not whole. real_time_factor: how long the
    answer took over how long it sounds, where the server was asked to tell."""

    text: str
    first_audio_s: float | None
    underruns: int
    silent_s: float
    late_s: float
    failure: str | None
    real_time_factor: float | None = None


@dataclass
class Session:
    """refused: no session was to be had; dropped: it ended before its last turn."""

    turns: list[Turn] = field(default_factory=list[Turn])
    end: Literal["finished", "refused", "dropped"] = "finished"
    why: str = ""


@dataclass
class _Heard:
    playout: Playout
    first: float | None = None  # when the first sound came
    words: list[str] = field(default_factory=list[str])
    failure: str | None = None
    real_time_factor: float | None = None


class _Failed(Exception):
    """The session can't go on: what the server said, or that it said nothing."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """manual: turns end by a message of ours, not by the server's hearing. playout: made anew for
    each answer. in_real_time: else questions are sent at once, and nobody listens to the end.
    chunk_units: asked of the server, which then tells its timings too; None asks for nothing that
    is beside the protocol. answer_s: after which a session without an answer is given up."""

    url: str
    api_key: str | None
    manual: bool
    playout: Callable[[], Playout]
    in_real_time: bool = True
    chunk_units: str | None = None
    answer_s: float = ANSWER_S

    async def converse(self, questions: Sequence[Spoken], wait_s: float = 0.0) -> Session:
        """Ask one after the other; wait_s: before the first. What a server does raises nothing."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, WebSocketException

        session = Session()
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        await asyncio.sleep(wait_s)
        began = False
        try:
            async with connect(self.url, additional_headers=headers, max_size=None) as socket:
                await self._begin(socket)
                began = True
                for question in questions:
                    session.turns.append(await self._turn(socket, question))
        except (OSError, WebSocketException, _Failed) as error:
            session.end = "dropped" if began else "refused"
            session.why = str(error) or type(error).__name__
            if isinstance(error, ConnectionClosed) and error.rcvd is not None:
                session.why = f"close code {error.rcvd.code} {error.rcvd.reason}"
        return session

    async def _begin(self, socket: ClientConnection) -> None:
        detection = None if self.manual else DETECTION
        settings: dict[str, Any] = {
            "type": "realtime",
            "audio": {"input": {"turn_detection": detection}},
        }
        if self.chunk_units is not None:
            settings["omni"] = {"chunk_size": self.chunk_units, "timings": True}
        async with asyncio.timeout(self.answer_s):
            # The server speaks first, if only to refuse; then it may have closed, so read before.
            kind = None
            while kind != "session.updated":
                event = _event(await socket.recv())
                kind = event["type"]
                if kind == "error":
                    raise _Failed(event["error"]["code"])
                if kind == "session.created":
                    await socket.send(_message("session.update", session=settings))

    async def _turn(self, socket: ClientConnection, question: Spoken) -> Turn:
        now = asyncio.get_running_loop().time
        ended: list[tuple[float, float]] = []  # when the question's last sample was sent, how late
        speaking = asyncio.create_task(self._speak(socket, question, ended))
        try:
            async with asyncio.timeout(self.answer_s):
                heard = await self._listen(socket, speaking)
                await speaking
        except TimeoutError:
            raise _Failed(f"no answer within {self.answer_s:g} s") from None
        finally:
            speaking.cancel()
            await asyncio.wait([speaking])
            _ = speaking.cancelled() or speaking.exception()  # looked at, or asyncio logs it
        if self.in_real_time:
            await asyncio.sleep(heard.playout.ends - now())  # not at all, if there was no sound
        ((sent, late_s),) = ended
        return Turn(
            text="".join(heard.words),
            first_audio_s=None if heard.first is None else heard.first - sent,
            underruns=heard.playout.underruns,
            silent_s=heard.playout.silent_s,
            late_s=late_s,
            failure=heard.failure,
            real_time_factor=heard.real_time_factor,
        )

    async def _listen(self, socket: ClientConnection, speaking: asyncio.Task[None]) -> _Heard:
        """The answer to the whole question: of one that came before it went on nothing counts."""
        now, heard = asyncio.get_running_loop().time, _Heard(self.playout())
        answer: _Heard | None = None
        while answer is None or not speaking.done():
            event = await _next(socket, None if answer is None else speaking)
            if event is None:
                break
            match event["type"]:
                case "input_audio_buffer.speech_started":
                    heard, answer = _Heard(self.playout()), None
                case "response.output_audio.delta":
                    heard.first = now() if heard.first is None else heard.first
                    # Base64 holds 3 bytes in 4 characters, a sample 2 bytes.
                    heard.playout.arrive(now(), len(event["delta"]) * 3 / 4 / 2 / WIRE_RATE)
                case "response.output_audio_transcript.delta":
                    heard.words.append(event["delta"])
                case "omni.timings" if event["audio_ms"]:
                    heard.real_time_factor = event["total_ms"] / event["audio_ms"]
                case "error" if event["error"]["code"] not in NOT_WRONG:
                    raise _Failed(event["error"]["code"])
                case "response.done":
                    response = event["response"]
                    if (response["status_details"] or {}).get("reason") != "turn_detected":
                        heard.failure = _failure(response)
                        answer = heard
                    # Else the server took a pause for the end, and the question went on.
                    heard = _Heard(self.playout())
                case _:
                    pass
        assert answer is not None
        return answer

    async def _speak(
        self, socket: ClientConnection, question: Spoken, ended: list[tuple[float, float]]
    ) -> None:
        """A frame is sent when its last sample has been spoken."""
        now = asyncio.get_running_loop().time
        began = now()
        for number, message in enumerate(question.messages, 1):
            due = began + number * FRAME_S
            if self.in_real_time:
                await asyncio.sleep(due - now())
            await socket.send(message)
            if number == question.frames:
                ended.append((now(), max(0.0, now() - due)))
        if self.manual:
            await socket.send(_message("input_audio_buffer.commit"))
            await socket.send(_message("response.create"))


def _message(type: str, **fields: Any) -> str:
    return json.dumps({"type": type, **fields})


def _event(text: str | bytes) -> dict[str, Any]:
    return json.loads(text)


async def _next(
    socket: ClientConnection, speaking: asyncio.Task[None] | None
) -> dict[str, Any] | None:
    """The next event; None if all has been spoken before one comes."""
    if speaking is None:
        return _event(await socket.recv())
    reading = asyncio.create_task(socket.recv())
    try:
        await asyncio.wait({reading, speaking}, return_when=asyncio.FIRST_COMPLETED)
        return _event(reading.result()) if reading.done() else None
    finally:
        reading.cancel()
        await asyncio.wait({reading})  # nobody else may read before it has ended
        _ = reading.cancelled() or reading.exception()  # looked at, or asyncio logs it


def _failure(response: dict[str, Any]) -> str | None:
    if response["status"] in ("completed", "incomplete"):
        return None
    error = (response["status_details"] or {}).get("error") or {}
    return str(error.get("code") or response["status"])
