"""The eleven events that clients send, and how a text becomes one of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast, get_args

from pydantic import Field, TypeAdapter, ValidationError

from serve.realtime.items import MAX_ID, Item
from serve.realtime.session_object import (
    MAX_OUTPUT_TOKENS,
    AudioOutput,
    FunctionTool,
    Modality,
    NamedTool,
    ToolChoice,
    refusal,
)
from serve.realtime.wire import Refused, Wire

Id = Annotated[str, Field(max_length=MAX_ID)]


class ClientEvent(Wire):
    """What all have: an id of the client's, which errors repeat."""

    event_id: str | None = Field(default=None, max_length=512)


class SessionUpdate(ClientEvent):
    """Changes of the session; what is not named stays."""

    type: Literal["session.update"]
    session: dict[str, Any]


class Append(ClientEvent):
    """More sound, base64 in the session's input format."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class Commit(ClientEvent):
    """The turn ends here."""

    type: Literal["input_audio_buffer.commit"]


class Clear(ClientEvent):
    """Forget the sound of the turn that has not ended."""

    type: Literal["input_audio_buffer.clear"]


class ClearOutput(ClientEvent):
    """Of WebRTC and SIP; over a WebSocket the client itself plays."""

    type: Literal["output_audio_buffer.clear"]


class CreateItem(ClientEvent):
    """A new item, after another one; "root" is the beginning."""

    type: Literal["conversation.item.create"]
    item: Item
    previous_item_id: Id | None = None


class RetrieveItem(ClientEvent):
    """Show an item."""

    type: Literal["conversation.item.retrieve"]
    item_id: Id


class TruncateItem(ClientEvent):
    """Only so much of what was said was heard."""

    type: Literal["conversation.item.truncate"]
    item_id: Id
    content_index: int = Field(default=0, ge=0)
    audio_end_ms: int = Field(ge=0)


class DeleteItem(ClientEvent):
    """Forget an item."""

    type: Literal["conversation.item.delete"]
    item_id: Id


class ResponseAudio(Wire):
    """How this response sounds."""

    output: AudioOutput | None = None


class ResponseParams(Wire):
    """What is different for one response. conversation "none": it is not remembered."""

    conversation: Literal["auto", "none"] = "auto"
    input: list[dict[str, Any]] | None = Field(default=None, max_length=512)
    instructions: str | None = Field(default=None, max_length=100_000)
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)] | Literal["inf"] | None = (
        None
    )
    metadata: dict[str, str] | None = Field(default=None, max_length=64)
    output_modalities: list[Modality] | None = Field(default=None, min_length=1, max_length=1)
    tools: list[FunctionTool] | None = Field(default=None, max_length=128)
    tool_choice: ToolChoice | NamedTool | None = None
    audio: ResponseAudio | None = None


class CreateResponse(ClientEvent):
    """Answer now."""

    type: Literal["response.create"]
    response: ResponseParams = ResponseParams()


class CancelResponse(ClientEvent):
    """Stop answering."""

    type: Literal["response.cancel"]
    response_id: Id | None = None


EveryClientEvent = (
    SessionUpdate | Append | Commit | Clear | ClearOutput | CreateItem | RetrieveItem
    | TruncateItem | DeleteItem | CreateResponse | CancelResponse
)  # fmt: skip
AnyClientEvent = Annotated[EveryClientEvent, Field(discriminator="type")]
CLIENT_EVENTS: tuple[type[ClientEvent], ...] = get_args(EveryClientEvent)
OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
READER: TypeAdapter[AnyClientEvent] = TypeAdapter(AnyClientEvent)


def read_object(text: str | bytes, max_depth: int) -> dict[str, Any]:
    """A message's text as a JSON object. Raises Refused for what is none, or too deep."""
    try:
        value = OBJECT.validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise Refused("invalid_json", f"message: {found['msg']}; send one JSON object") from None
    if _deeper(value, max_depth):
        raise Refused("too_deep", f"message: nested deeper than {max_depth} levels; flatten it")
    return value


def client_event(value: dict[str, Any]) -> AnyClientEvent:
    """The event that an object is. Raises Refused with the field that can't be."""
    try:
        return READER.validate_python(value)
    except ValidationError as error:
        kind = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if kind["type"].startswith("union_tag") and not kind["loc"]:
            name = str(value.get("type"))[:100]
            raise Refused(
                "unknown_event", f"type={name!r}: no event of this protocol", param="type"
            ) from None
        refused = refusal(error, "")
        # The first part of a place names the event itself, which the client knows.
        place = (refused.param or "").partition(value["type"])[2].strip(".")
        message = refused.message.partition(": ")[2]
        raise Refused(refused.code, f"{place}: {message}", param=place or None) from None


def id_of(value: dict[str, Any]) -> str | None:
    """The client's own id of a message, where it is one."""
    found = value.get("event_id")
    return found[:512] if isinstance(found, str) else None


def _deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects lie in each other deeper than the limit."""
    level: list[Any] = [value]
    for _ in range(limit):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += cast("dict[str, Any]", one).values()
            elif isinstance(one, list):
                inner += cast("list[Any]", one)
        level = [one for one in inner if isinstance(one, (dict, list))]
        if not level:
            return False
    return True
