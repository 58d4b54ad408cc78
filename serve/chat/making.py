"""One answer in the making: what the engine is told, and what it says."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import closing
from dataclasses import dataclass, field, replace

from omni.audio import SAMPLE_RATE
from omni.engine import Begun, Engine, EngineEvent, EngineFull, Recording
from omni.session import AudioDelta, Done, SessionConfig, TextDelta
from serve.chat.completion import CompletionDetails, FinishReason, PromptDetails, Usage
from serve.chat.errors import ApiError
from serve.chat.request import ChatRequest
from serve.realtime import (
    REJECTED,
    SESSIONS,
    Asked,
    Model,
    Outbox,
    Said,
    count_answer,
)

log = logging.getLogger(__name__)

FULL = "All sessions are taken; try again later"
TRY_AGAIN_S = 1
COLDEST = 0.01  # a temperature below it is 0: logits divided by less are no numbers any more
SEED_BITS = 63


@dataclass
class Made:
    """What has come of it so far."""

    said: Said = field(default_factory=Said)
    begun: Begun = field(default_factory=lambda: Begun(0, 0, 0))
    units: int = 0
    finish_reason: FinishReason = "stop"

    def usage(self) -> Usage:
        """Counted as over the WebSocket."""
        text, read = len(self.said.tokens), self.begun
        return Usage(
            prompt_tokens=read.positions,
            completion_tokens=text + self.units,
            total_tokens=read.positions + text + self.units,
            prompt_tokens_details=PromptDetails(
                text_tokens=read.positions - read.spoken, audio_tokens=read.spoken,
                cached_tokens=read.cached,
            ),
            completion_tokens_details=CompletionDetails(text_tokens=text, audio_tokens=self.units),
        )  # fmt: skip


def answer_config(request: ChatRequest, base: SessionConfig) -> SessionConfig:
    """How the answer is made: as the checkpoint says, where the request says nothing.

    Without a seed every answer is drawn by another one.
    """
    sampling = base.sampling
    if (temperature := request.temperature) is not None:
        sampling = replace(sampling, temperature=temperature if temperature >= COLDEST else 0.0)
    return replace(
        base,
        speak=request.speaks,
        max_new_tokens=request.longest or base.max_new_tokens,
        sampling=replace(
            sampling,
            top_p=sampling.top_p if request.top_p is None else request.top_p,
            seed=secrets.randbits(SEED_BITS) if request.seed is None else request.seed,
        ),
        stop=tuple(request.stop),
    )


def check_free(engine: Engine) -> None:
    """Raise ApiError where no session would be opened now."""
    if engine.sessions >= engine.max_sessions or not engine.alive():
        raise full(engine)


def tell_of_full(engine: Engine) -> None:
    """A client is turned away."""
    REJECTED.labels(reason="capacity").inc()
    log.warning(
        "a client is turned away: %d of %d sessions are taken (max_sessions)",
        engine.sessions, engine.max_sessions,
    )  # fmt: skip


def full(engine: Engine) -> ApiError:
    """There is no place for another conversation."""
    tell_of_full(engine)
    return ApiError(503, "server_full", FULL, retry_after_s=TRY_AGAIN_S)


async def answer(
    request: ChatRequest,
    asked: Asked,
    made: Made,
    *,
    engine: Engine,
    model: Model,
    unsent_ms: float,
) -> AsyncGenerator[TextDelta | AudioDelta]:
    """The pieces of an answer, which are noted in `made` too. Whoever leaves off cancels it.

    unsent_ms: sound that waits to be taken; at it the answer pauses.
    Raises ApiError where there is no place, the question is refused or the answer fails.
    """
    config, question = answer_config(request, model.base), asked.question
    assert question is not None
    try:
        session = engine.open(config)
    except (EngineFull, RuntimeError):
        raise full(engine) from None
    with closing(session), SESSIONS.track_inprogress():
        system = "\n".join(asked.system) if model.takes_system else None
        tools = [tool.function.template_form() for tool in request.tools]
        if not model.takes_tools or request.tool_choice == "none":
            tools = []
        session.configure(config, system=system or None, tools=tools)
        waiting = Outbox[EngineEvent](unsent_ms, full=session.pause, ready=session.resume)
        loop = asyncio.get_running_loop()

        def put(event: EngineEvent) -> None:
            seconds = len(event.waveform) / SAMPLE_RATE if isinstance(event, AudioDelta) else 0.0
            waiting.put(event, audio_ms=1e3 * seconds)

        if isinstance(question, Recording):
            assert question.samples is not None
            session.push_audio(question.samples)
        session.run(
            lambda event: loop.call_soon_threadsafe(put, event) and None, question, asked.past
        )
        while not isinstance(event := await waiting.next(), Done):
            if isinstance(event, Exception):
                raise _failed(event)
            if isinstance(event, Begun):
                made.begun = event
                continue
            if isinstance(event, TextDelta):
                made.said.tokens.append((event.token_id, event.text))
            else:
                made.units += event.units
            yield event
        if event.reason == "cancelled":  # nobody but the server itself has
            raise ApiError(503, "server_closing", "The server is being stopped")
        count_answer(event)
        made.finish_reason = "length" if event.reason == "length" else "stop"


def _failed(error: Exception) -> ApiError:
    if isinstance(error, ValueError):  # AudioError too
        return ApiError(400, "question_refused", str(error), param="messages")
    log.error("an answer failed", exc_info=error)
    return ApiError(500, "response_failed", "The server failed to make this answer")
