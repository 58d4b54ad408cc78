"""The response to one request: the answer as a whole, or as server-sent events.

It lasts as long as its client listens: one that goes away, or takes nothing, cancels its answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import numpy as np
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from omni.engine import Engine
from omni.session import AudioDelta, TextDelta
from serve.chat.completion import (
    AnswerAudio,
    AnswerMessage,
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    Delta,
    DeltaAudio,
)
from serve.chat.errors import ApiError
from serve.chat.making import Made, answer
from serve.chat.request import ChatRequest
from serve.chat.said import SpokenAnswers
from serve.chat.sound import SoundText, whole_sound
from serve.realtime import RESPONSES, Asked, Limits, Model, Said, new_id

log = logging.getLogger(__name__)

END = b"data: [DONE]\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
Result = TypeVar("Result")
Pieces = AsyncGenerator[TextDelta | AudioDelta]


class Gone(Exception):
    """The client no longer listens."""


class Answer(Response):
    """ASGI: nothing is asked of the engine before it is called."""

    media_type = "text/event-stream"

    def __init__(
        self,
        request: ChatRequest,
        asked: Asked,
        *,
        engine: Engine,
        model: Model,
        limits: Limits,
        spoken: SpokenAnswers,
        created: int,
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._request = request
        self._asked = asked
        self._engine = engine
        self._model = model
        self._limits = limits
        self._spoken = spoken
        self._made = Made()
        self._id = new_id("chatcmpl")
        self._audio_id = new_id("audio")
        self._created = created
        self._status = "cancelled"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ApiError for a question that gets no answer, if nothing has been sent yet."""
        try:
            work = self._stream(send) if self._request.stream else self._send(scope, receive, send)
            await unless_gone(work, receive)
        except Gone:
            pass
        except Exception:
            self._status = "failed"
            raise
        finally:
            RESPONSES.labels(status=self._status).inc()

    def _pieces(self) -> Pieces:
        limit_s = self._limits.unsent_audio_s if self._request.stream else float("inf")
        return answer(
            self._request, self._asked, self._made,
            engine=self._engine, model=self._model, unsent_ms=1e3 * limit_s,
        )  # fmt: skip

    # As a whole

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        waveforms: list[np.ndarray] = []
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                if isinstance(piece, AudioDelta):
                    waveforms.append(piece.waveform)
        self._note_end()
        await JSONResponse(self._whole(waveforms).model_dump())(scope, receive, send)

    def _whole(self, waveforms: list[np.ndarray]) -> Completion:
        made, audio = self._made, None
        if self._request.audio is not None and self._request.speaks:
            data = whole_sound(waveforms, wav=self._request.audio.format == "wav")
            audio = AnswerAudio(
                id=self._audio_id, data=data, expires_at=self._keep(), transcript=made.said.text
            )
        content = made.said.text if audio is None else None
        message = AnswerMessage(content=content, audio=audio)
        return Completion(
            id=self._id, created=self._created, model=self._model.name, usage=made.usage(),
            choices=[Choice(message=message, finish_reason=made.finish_reason)],
        )  # fmt: skip

    def _note_end(self) -> None:
        self._status = "incomplete" if self._made.finish_reason == "length" else "completed"

    def _keep(self) -> int:
        """Remember what was said; until when it is known."""
        tokens = self._made.said.tokens
        while self._request.stop and tokens and not tokens[-1][1]:
            tokens = tokens[:-1]  # of a stop, which is no part of the answer
        self._spoken.keep(self._audio_id, Said(tokens))
        return self._spoken.expiry()

    # In pieces

    async def _stream(self, send: Send) -> None:
        async with aclosing(self._pieces()) as pieces:
            # What is refused is refused before the response begins, with a status of its own.
            first = await anext(pieces, None)
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await self._put(send, start)
            try:
                await self._tell(send, first, pieces)
            except ApiError as error:
                self._status = "failed"
                await self._event(send, error.body.model_dump_json())
        await self._put(send, {"type": "http.response.body", "body": b""})

    async def _tell(self, send: Send, first: TextDelta | AudioDelta | None, pieces: Pieces) -> None:
        sound = SoundText()
        if self._request.speaks:
            begin = Delta(role="assistant", audio=DeltaAudio(id=self._audio_id, transcript=""))
        else:
            begin = Delta(role="assistant", content="")
        await self._delta(send, begin)
        if first is not None:
            await self._piece(send, first, sound)
        async for piece in pieces:
            await self._piece(send, piece, sound)
        self._note_end()
        if self._request.speaks:
            if rest := sound.spell(np.empty(0, np.float32), last=True):
                await self._delta(send, Delta(audio=DeltaAudio(data=rest)))
            await self._delta(send, Delta(audio=DeltaAudio(expires_at=self._keep())))
        end = ChunkChoice(delta=Delta(), finish_reason=self._made.finish_reason)
        await self._event(send, self._chunk([end]).model_dump_json())
        if self._request.stream_options.include_usage:
            last = self._chunk([])
            last.usage = self._made.usage()
            await self._event(send, last.model_dump_json())
        await self._put(send, {"type": "http.response.body", "body": END, "more_body": True})

    async def _piece(self, send: Send, piece: TextDelta | AudioDelta, sound: SoundText) -> None:
        if isinstance(piece, AudioDelta):
            if data := sound.spell(piece.waveform):
                await self._delta(send, Delta(audio=DeltaAudio(data=data)))
        elif piece.text and self._request.speaks:
            await self._delta(send, Delta(audio=DeltaAudio(transcript=piece.text)))
        elif piece.text:
            await self._delta(send, Delta(content=piece.text))

    def _chunk(self, choices: list[ChunkChoice]) -> Chunk:
        return Chunk(id=self._id, created=self._created, model=self._model.name, choices=choices)

    async def _delta(self, send: Send, delta: Delta) -> None:
        await self._event(send, self._chunk([ChunkChoice(delta=delta)]).model_dump_json())

    async def _event(self, send: Send, text: str) -> None:
        body = f"data: {text}\n\n".encode()
        await self._put(send, {"type": "http.response.body", "body": body, "more_body": True})

    async def _put(self, send: Send, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._limits.stalled_s):
                await send(message)
        except TimeoutError:
            log.info("%s: the client has taken nothing for %g s", self._id, self._limits.stalled_s)
            raise Gone from None


async def unless_gone(work: Coroutine[Any, Any, Result], receive: Receive) -> Result:
    """Do it while the client is there; receive: once its request has been read whole. Raises
    Gone."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait({working, leaving})
        for task in (working, leaving):  # looked at, or asyncio logs it as forgotten
            _ = task.cancelled() or task.exception()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
