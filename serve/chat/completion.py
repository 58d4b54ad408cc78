"""What a client is answered: the protocol's objects, whole and in pieces."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

FinishReason = Literal["stop", "length"]


class PromptDetails(BaseModel):
    """What the model read. cached_tokens: computed before, for another question."""

    text_tokens: int
    audio_tokens: int
    cached_tokens: int


class CompletionDetails(BaseModel):
    """What it said. audio_tokens: units of speech."""

    text_tokens: int
    audio_tokens: int


class Usage(BaseModel):
    """In positions of the language model, and units of speech."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class AnswerAudio(BaseModel):
    """data: base64, in the format that was asked for. id: by which a later request may name this
    answer, until expires_at (seconds since 1970)."""

    id: str
    data: str
    expires_at: int
    transcript: str


class AnswerMessage(BaseModel):
    """content: null where the answer is in sound."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    audio: AnswerAudio | None = None


class Choice(BaseModel):
    """The one answer."""

    index: int = 0
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: None = None


class Completion(BaseModel):
    """An answer as a whole. created: seconds since 1970."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Sparse(BaseModel):
    """What is nothing is left out."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class DeltaAudio(Sparse):
    """Words or sound that have been added. The pieces of `data` joined are base64 of the whole."""

    id: str | None = None
    transcript: str | None = None
    data: str | None = None
    expires_at: int | None = None


class Delta(Sparse):
    """What has been added."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    audio: DeltaAudio | None = None


class ChunkChoice(BaseModel):
    """Of the one answer."""

    index: int = 0
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: None = None


class Chunk(BaseModel):
    """A piece of an answer. usage: in the last one, where it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
