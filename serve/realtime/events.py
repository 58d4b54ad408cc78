"""The events that the server sends, each a model of its own: the protocol's names and fields."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from serve.realtime.session_object import SessionObject
from serve.realtime.wire import new_id

Shown = dict[str, Any]  # an item, as serve.realtime.items.shown gives it


class ServerEvent(BaseModel):
    """What all have: an id."""

    event_id: str = Field(default_factory=lambda: new_id("event"))

    def as_text(self) -> str:
        """As it goes over the wire. A previous item is told also where there is none."""
        return self.model_dump_json()


class ErrorBody(BaseModel):
    """What was wrong; event_id: of the client's event that it is about."""

    type: Literal["invalid_request_error", "server_error"] = "invalid_request_error"
    code: str
    message: str
    param: str | None = None
    event_id: str | None = None


class ErrorEvent(ServerEvent):
    """Something could not be done; the session goes on."""

    type: Literal["error"] = "error"
    error: ErrorBody


class SessionCreated(ServerEvent):
    """The first event of a session."""

    type: Literal["session.created"] = "session.created"
    session: SessionObject


class SessionUpdated(ServerEvent):
    """The whole session, after a change."""

    type: Literal["session.updated"] = "session.updated"
    session: SessionObject


class ConversationBody(BaseModel):
    """The conversation of a session."""

    id: str
    object: Literal["realtime.conversation"] = "realtime.conversation"


class ConversationCreated(ServerEvent):
    """The session's one conversation is there."""

    type: Literal["conversation.created"] = "conversation.created"
    conversation: ConversationBody


class ItemAdded(ServerEvent):
    """An item has its place."""

    type: Literal["conversation.item.added"] = "conversation.item.added"
    previous_item_id: str | None
    item: Shown


class ItemDone(ServerEvent):
    """An item is whole."""

    type: Literal["conversation.item.done"] = "conversation.item.done"
    previous_item_id: str | None
    item: Shown


class ItemRetrieved(ServerEvent):
    """An item that was asked for."""

    type: Literal["conversation.item.retrieved"] = "conversation.item.retrieved"
    item: Shown


class ItemTruncated(ServerEvent):
    """What was not heard is no longer part of the conversation."""

    type: Literal["conversation.item.truncated"] = "conversation.item.truncated"
    item_id: str
    content_index: int
    audio_end_ms: int


class ItemDeleted(ServerEvent):
    """An item is gone."""

    type: Literal["conversation.item.deleted"] = "conversation.item.deleted"
    item_id: str


class DurationUsage(BaseModel):
    """What a transcription is counted by."""

    type: Literal["duration"] = "duration"
    seconds: float


class TranscriptionCompleted(ServerEvent):
    """What the client said, in words."""

    type: Literal["conversation.item.input_audio_transcription.completed"] = (
        "conversation.item.input_audio_transcription.completed"
    )
    item_id: str
    content_index: int = 0
    transcript: str
    usage: DurationUsage


class TranscriptionFailed(ServerEvent):
    """What the client said is not told in words."""

    type: Literal["conversation.item.input_audio_transcription.failed"] = (
        "conversation.item.input_audio_transcription.failed"
    )
    item_id: str
    content_index: int = 0
    error: ErrorBody


class BufferCommitted(ServerEvent):
    """The buffered sound is now an item."""

    type: Literal["input_audio_buffer.committed"] = "input_audio_buffer.committed"
    item_id: str
    previous_item_id: str | None


class BufferCleared(ServerEvent):
    """The buffered sound is forgotten."""

    type: Literal["input_audio_buffer.cleared"] = "input_audio_buffer.cleared"


class SpeechStarted(ServerEvent):
    """Somebody speaks. audio_start_ms: of all sound sent so far, with the padding before it."""

    type: Literal["input_audio_buffer.speech_started"] = "input_audio_buffer.speech_started"
    item_id: str
    audio_start_ms: int


class SpeechStopped(ServerEvent):
    """Nobody speaks any more. audio_end_ms: of all sound sent so far."""

    type: Literal["input_audio_buffer.speech_stopped"] = "input_audio_buffer.speech_stopped"
    item_id: str
    audio_end_ms: int


class ResponseCreated(ServerEvent):
    """An answer is in the making."""

    type: Literal["response.created"] = "response.created"
    response: Shown


class ResponseDone(ServerEvent):
    """An answer has ended, whichever way its status says."""

    type: Literal["response.done"] = "response.done"
    response: Shown


class OfResponse(ServerEvent):
    """What belongs to the output item of a response."""

    response_id: str
    output_index: int = 0


class OutputItemAdded(OfResponse):
    """The answer's item has begun."""

    type: Literal["response.output_item.added"] = "response.output_item.added"
    item: Shown


class OutputItemDone(OfResponse):
    """The answer's item has ended."""

    type: Literal["response.output_item.done"] = "response.output_item.done"
    item: Shown


class OfPart(OfResponse):
    """What belongs to the content of an item."""

    item_id: str
    content_index: int = 0


class ShownPart(BaseModel):
    """A piece of content, as far as it was made."""

    type: Literal["text", "audio"]
    text: str | None = None
    transcript: str | None = None


class ContentPartAdded(OfPart):
    """Content begins."""

    type: Literal["response.content_part.added"] = "response.content_part.added"
    part: ShownPart


class ContentPartDone(OfPart):
    """Content has ended."""

    type: Literal["response.content_part.done"] = "response.content_part.done"
    part: ShownPart


class TextDeltaEvent(OfPart):
    """More text."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    delta: str


class TextDone(OfPart):
    """All of the text."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    text: str


class AudioDeltaEvent(OfPart):
    """More sound, base64 in the session's output format."""

    type: Literal["response.output_audio.delta"] = "response.output_audio.delta"
    delta: str


class AudioDone(OfPart):
    """No more sound."""

    type: Literal["response.output_audio.done"] = "response.output_audio.done"


class TranscriptDelta(OfPart):
    """More of the words that are spoken."""

    type: Literal["response.output_audio_transcript.delta"] = (
        "response.output_audio_transcript.delta"
    )
    delta: str


class TranscriptDone(OfPart):
    """All words that are spoken."""

    type: Literal["response.output_audio_transcript.done"] = "response.output_audio_transcript.done"
    transcript: str


class StageTimings(ServerEvent):
    """Where the time of an answer went; only to sessions whose `omni.timings` is true.

    All in ms, None for what did not happen. silence_ms: by which the end of the turn was known.
    queue_ms: until the model took the question. The rest is omni.session.Timings': durations of
    encoding and prefill, and moments counted from when the model took it.
    """

    type: Literal["omni.timings"] = "omni.timings"
    response_id: str
    silence_ms: int | None
    queue_ms: float
    encode_ms: float
    prefill_ms: float
    first_token_ms: float | None
    first_unit_ms: float | None
    first_audio_ms: float | None
    total_ms: float
    audio_ms: float


SERVER_EVENTS: tuple[type[ServerEvent], ...] = (
    ErrorEvent, SessionCreated, SessionUpdated, ConversationCreated, ItemAdded, ItemDone,
    ItemRetrieved, ItemTruncated, ItemDeleted, TranscriptionCompleted, TranscriptionFailed,
    BufferCommitted, BufferCleared, SpeechStarted, SpeechStopped, ResponseCreated,
    ResponseDone, OutputItemAdded, OutputItemDone, ContentPartAdded,
    ContentPartDone, TextDeltaEvent, TextDone, AudioDeltaEvent, AudioDone, TranscriptDelta,
    TranscriptDone, StageTimings,
)  # fmt: skip
