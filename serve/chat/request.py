"""What a client asks: OpenAI's request for a chat completion, as far as it can be answered here.

What is not named here is passed over, as everywhere in these protocols; what would change the
answer and can't be done is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from serve.realtime import MAX_OUTPUT_TOKENS, MAX_TEXT, FunctionTool, Refused, Wire

MAX_PARTS = 64  # of one message
STOPS, STOP_LENGTH = 4, 200

Text = Annotated[str, Field(max_length=MAX_TEXT)]


class TextPart(Wire):
    """Something written."""

    type: Literal["text"]
    text: Text


class RefusalPart(Wire):
    """What an assistant said instead of an answer."""

    type: Literal["refusal"]
    refusal: Text


class InputAudio(Wire):
    """data: a whole file, base64."""

    data: str
    format: Literal["wav", "mp3", "flac", "ogg"]


class InputAudioPart(Wire):
    """Something said."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class AudioUrl(Wire):
    """url: the recording itself, as "data:audio/wav;base64,..."; nothing is fetched."""

    url: str


class AudioUrlPart(Wire):
    """Something said, by its address."""

    type: Literal["audio_url"]
    audio_url: AudioUrl


def _as_parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


UserPart = Annotated[TextPart | InputAudioPart | AudioUrlPart, Field(discriminator="type")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
# Content is a text or a list of parts; here always the list.
Written = BeforeValidator(_as_parts, json_schema_input_type=str | list[TextPart])
UserContent = Annotated[
    list[UserPart],
    Field(max_length=MAX_PARTS),
    BeforeValidator(_as_parts, json_schema_input_type=str | list[UserPart]),
]
TextContent = Annotated[list[TextPart], Field(max_length=MAX_PARTS), Written]
AssistantContent = Annotated[
    list[AssistantPart],
    Field(max_length=MAX_PARTS),
    BeforeValidator(_as_parts, json_schema_input_type=str | list[AssistantPart]),
]


class SystemMessage(Wire):
    """What the model is told to be."""

    role: Literal["system", "developer"]
    content: TextContent


class UserMessage(Wire):
    """A question, or several."""

    role: Literal["user"]
    content: UserContent


class SpokenAnswer(Wire):
    """An answer that this server has given in sound, by its id."""

    id: str = Field(max_length=200)


class CalledFunction(Wire):
    """arguments: JSON, as the model wrote it."""

    name: str = Field(max_length=200)
    arguments: Text


class ToolCall(Wire):
    """A function that was called."""

    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(Wire):
    """An answer: what was written, or the id of what was said."""

    role: Literal["assistant"]
    content: AssistantContent = Field(default=[])
    audio: SpokenAnswer | None = None
    tool_calls: list[ToolCall] = Field(default=[], max_length=128)


class ToolMessage(Wire):
    """What a function gave."""

    role: Literal["tool"]
    content: TextContent


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class AudioParams(Wire):
    """How the answer sounds. pcm16: 16-bit little-endian, mono, 24 kHz. voice: any name stands for
    the one that there is."""

    voice: Any = None
    format: Literal["wav", "pcm16"]


class StreamOptions(Wire):
    """include_usage: a last piece with the usage alone."""

    include_usage: bool = False


class ResponseFormat(Wire):
    """Only plain text is promised."""

    type: str = "text"


class Tool(Wire):
    """A function that the model may know of."""

    type: Literal["function"]
    function: FunctionTool


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ChatRequest(Wire):
    """The body of a request."""

    model: str = Field(max_length=500)
    messages: list[Message] = Field(min_length=1)
    modalities: list[Literal["text", "audio"]] = Field(default=["text"], min_length=1)
    audio: AudioParams | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=STOP_LENGTH)]],
        Field(max_length=STOPS),
        BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    ] = Field(default=[])
    n: int = 1
    logprobs: bool = False
    logit_bias: dict[str, float] = Field(default={})
    frequency_penalty: float = 0
    presence_penalty: float = 0
    response_format: ResponseFormat = ResponseFormat()
    tools: list[Tool] = Field(default=[], max_length=128)
    tool_choice: Any = "auto"

    @property
    def speaks(self) -> bool:
        """Whether the answer is wanted in sound; its words come with it."""
        return "audio" in self.modalities

    @property
    def longest(self) -> int | None:
        """Tokens of the answer at most; None: as the checkpoint says."""
        given = self.max_completion_tokens or self.max_tokens
        return None if given is None else min(given, MAX_OUTPUT_TOKENS)

    @field_validator("n")
    @classmethod
    def _one(cls, value: int) -> int:
        return _only(value, 1, "one answer is made; ask again for another")

    @field_validator("logprobs")
    @classmethod
    def _no_logprobs(cls, value: bool) -> bool:
        return _only(value, False, "no probabilities are told; leave it out")

    @field_validator("logit_bias")
    @classmethod
    def _no_bias(cls, value: dict[str, float]) -> dict[str, float]:
        return _only(value, {}, "tokens can't be made likelier; leave it out")

    @field_validator("frequency_penalty", "presence_penalty")
    @classmethod
    def _no_penalty(cls, value: float) -> float:
        return _only(value, 0, "repetition is not penalised; leave it out")

    @field_validator("response_format")
    @classmethod
    def _plain(cls, value: ResponseFormat) -> ResponseFormat:
        _only(value.type, "text", "only plain text is promised; leave it out")
        return value

    @field_validator("tool_choice")
    @classmethod
    def _no_call(cls, value: Any) -> Any:
        if value not in (None, "auto", "none"):
            raise ValueError("this model calls no function; give auto or none")
        return value

    @model_validator(mode="after")
    def _sound_as_wanted(self) -> ChatRequest:
        if self.speaks and self.audio is None:
            raise ValueError(
                'modalities: holds "audio", and audio is missing; give its voice and format, as in '
                '{"voice": "default", "format": "wav"}'
            )
        if self.speaks and self.stream and self.audio is not None and self.audio.format != "pcm16":
            raise ValueError(
                f"audio.format={self.audio.format!r}: a stream is pcm16; give that, or stream=false"
            )
        return self


def _only(value: Any, allowed: Any, remedy: str) -> Any:
    if value != allowed:
        raise ValueError(f"{value!r}: {remedy}")
    return value


def chat_request(value: dict[str, Any]) -> ChatRequest:
    """The request that an object is. Raises Refused with the first field that can't be."""
    try:
        return ChatRequest.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    place = _place(first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    raise Refused(code, f"{place}: {said}" if place else said, param=place or None)


def _place(loc: tuple[int | str, ...]) -> str:
    """Where a finding of pydantic's is, as in messages[0].content[1].text.

    What it names right after a list's place is which kind of message or part it has taken it for.
    """
    place = ""
    after_index = False
    for part in loc:
        if isinstance(part, int):
            place += f"[{part}]"
        elif not after_index:
            place += f".{part}" if place else part
        after_index = isinstance(part, int)
    return place[:200]
