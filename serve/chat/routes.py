"""Where the chat protocol is served, and how a request comes in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic.json_schema import models_json_schema
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from omni.audio import SAMPLE_RATE
from omni.engine import Engine
from serve.chat.answering import Answer
from serve.chat.completion import Chunk, Completion
from serve.chat.errors import ApiError, ErrorAnswer
from serve.chat.making import check_free
from serve.chat.reading import Reader
from serve.chat.request import ChatRequest, chat_request
from serve.chat.said import SpokenAnswers
from serve.realtime import Asked, Limits, Model, Refused, read_object

MIB = 1 << 20
# Bytes of a second of plain sound: packed, a request may hold no more than unpacked.
PCM16_PER_S = 2 * SAMPLE_RATE
PLACE = "#/components/schemas/{model}"
BODY = {"content": {"application/json": {"schema": {"$ref": PLACE.format(model="ChatRequest")}}}}
PIECES = {"text/event-stream": {"schema": {"$ref": PLACE.format(model="Chunk")}}}
REFUSALS = {
    400: "the request can't be answered",
    401: "no right key",
    404: "another model",
    408: "the request came too slowly",
    413: "the request is too large",
    503: "every place is taken; Retry-After says when to ask again",
}


def chat_router(
    engine: Engine, model: Model, limits: Limits, *, now: Callable[[], float]
) -> APIRouter:
    """POST /v1/chat/completions, on an engine that runs. now: seconds since 1970."""
    router = APIRouter()
    spoken = SpokenAnswers(now)
    longest_s = min(limits.utterance_s, model.longest_s)
    together_s = max(longest_s, limits.request_mib * MIB / PCM16_PER_S)
    reader = Reader(
        model=model, longest_s=longest_s, together_s=together_s,
        longest_text=round(limits.message_mib * MIB), spoken=spoken,
    )  # fmt: skip

    def read(body: bytes) -> tuple[ChatRequest, Asked]:
        try:
            request = chat_request(read_object(body, limits.json_depth))
            if request.model != model.name:
                raise ApiError.of(other_model(request.model, model), 404)
            if len(request.messages) > limits.items:
                raise Refused(
                    "conversation_full",
                    f"messages: {len(request.messages)}, and {limits.items} are taken; leave out "
                    "the oldest",
                    param="messages",
                )
            return request, reader.read(request.messages)
        except Refused as refused:
            raise ApiError.of(refused) from None

    @router.post(
        "/v1/chat/completions",
        response_model=Completion,
        responses={
            200: {"description": "The answer; pieces of it with stream=true", "content": PIECES},
            **{
                status: {"description": why, "model": ErrorAnswer}
                for status, why in REFUSALS.items()
            },
        },
        openapi_extra={"requestBody": BODY | {"required": True}},
    )
    async def chat_completions(request: Request) -> Response:
        """Answer the last question of a conversation, in text or in sound."""
        check_free(engine)
        body = await read_body(request, limits)
        wanted, asked = await run_in_threadpool(read, body)
        return Answer(
            wanted, asked, engine=engine, model=model, limits=limits, spoken=spoken,
            created=int(now()),
        )  # fmt: skip

    return router


def other_model(name: str, model: Model) -> Refused:
    """A model is asked for that is not there."""
    message = f"model={name!r}: this server has {model.name!r} alone; give that"
    return Refused("model_not_found", message, param="model")


async def read_body(request: Request, limits: Limits) -> bytes:
    """Raises ApiError for one that is too large, or comes too slowly."""
    most = round(limits.request_mib * MIB)
    pieces, body = request.stream(), bytearray()
    length = 0
    try:
        while True:
            async with asyncio.timeout(limits.stalled_s):
                piece = await anext(pieces, None)
            if piece is None:
                break
            length += len(piece)
            if length <= most:
                body += piece
            elif length > 2 * most:  # some is still taken, so that clients come to read why
                break
    except TimeoutError:
        raise ApiError(
            408, "request_timeout", f"body: nothing came for {limits.stalled_s:g} s; send it again"
        ) from None
    except ClientDisconnect:
        raise ApiError(400, "incomplete_body", "body: it broke off; send it again") from None
    if length > most:
        raise ApiError(
            413, "request_too_large",
            f"body: more than {limits.request_mib:g} MiB; send shorter recordings, or leave out "
            "the oldest",
        )  # fmt: skip
    return bytes(body)


def describe_request(app: FastAPI) -> None:
    """Put what a request may hold into the application's OpenAPI document.

    FastAPI does so by itself only for a body that it reads itself: before it looks at the key, and
    however large it is.
    """
    plain = app.openapi
    _, schemas = models_json_schema(
        [(ChatRequest, "validation"), (Chunk, "serialization")], ref_template=PLACE
    )

    def openapi() -> dict[str, Any]:
        document = plain()
        document["components"]["schemas"] |= schemas["$defs"]
        return document

    app.openapi = openapi
