"""One client's session without its network: client events in, server events into an outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from omni.audio import SAMPLE_RATE
from omni.engine import EngineSession, Recording
from omni.session import SessionConfig
from serve.realtime import messages as sent
from serve.realtime.activity import Voice
from serve.realtime.answering import Answering, Post
from serve.realtime.conversation import Asked, Conversation, Entry, asked_of
from serve.realtime.events import (
    BufferCleared,
    BufferCommitted,
    ConversationBody,
    ConversationCreated,
    DurationUsage,
    ErrorBody,
    ErrorEvent,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemRetrieved,
    ItemTruncated,
    ServerEvent,
    SessionCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    TranscriptionCompleted,
    TranscriptionFailed,
)
from serve.realtime.formats import WireDecoder, read_base64
from serve.realtime.hearing import Hearing
from serve.realtime.items import Item, MessageItem, Part, shown
from serve.realtime.limits import Limits
from serve.realtime.live import LiveQuestion
from serve.realtime.metrics import REFUSALS
from serve.realtime.outbox import Outbox
from serve.realtime.session_object import SessionObject, refusal, updated
from serve.realtime.wire import Refused, new_id

log = logging.getLogger(__name__)

ITEM: TypeAdapter[Item] = TypeAdapter(Item)
Recogniser = Callable[[np.ndarray], str]  # [n] float32, 16 kHz -> what was said


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a session has to know of the model that it is served by.

    base: how the checkpoint answers. takes_system: whether it was taught system messages.
    takes_tools: whether its chat template does anything with tools. longest_s: of a spoken
    question. control_token_in: the first token in a text that would steer the model.
    """

    name: str
    base: SessionConfig
    takes_system: bool
    takes_tools: bool
    longest_s: float
    control_token_in: Callable[[str], str | None]
    recogniser: Recogniser | None = None


class Talk:
    """`handle` takes one event of the client; what comes of it goes into the outbox."""

    def __init__(
        self,
        model: Model,
        engine: EngineSession,
        outbox: Outbox,
        limits: Limits,
        *,
        make_voice: Callable[[], Voice],
        post: Post,
        in_background: Callable[[Callable[[], None]], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        """in_background: does what takes long elsewhere. Raises nothing."""
        self._model = model
        self._outbox = outbox
        self._post = post
        self._in_background = in_background
        self.session = SessionObject(
            id=new_id("sess"), model=model.name, expires_at=int(now() + limits.session_s)
        )
        self._conversation_id = new_id("conv")
        self._conversation = Conversation(limits.items)
        self._told_of_tools = False
        live = LiveQuestion(engine)
        self._answering = Answering(
            engine, live, self._conversation, self._conversation_id, outbox,
            base=model.base, takes_system=model.takes_system, post=post,
            read_input=self._read_input,
        )  # fmt: skip
        self._hearing = Hearing(
            live, self.session.audio.input, make_voice=make_voice,
            longest=round(min(limits.utterance_s, model.longest_s) * SAMPLE_RATE),
            speech_started=self._speech_started, speech_stopped=self._speech_stopped,
            turn=self._turn,
        )  # fmt: skip

    def open(self, settings: dict[str, Any] | None = None) -> None:
        """The first events. settings: of the session, as an ephemeral key brings them."""
        if settings:
            self._change(settings)
        self._emit(SessionCreated(session=self.session))
        self._emit(ConversationCreated(conversation=ConversationBody(id=self._conversation_id)))

    def close(self) -> None:
        """The client has gone."""
        self._answering.close()

    def handle(self, text: str, max_depth: int) -> None:
        """One message. Whatever is wrong with it is told as an `error` event."""
        event_id = None
        try:
            value = sent.read_object(text, max_depth)
            event_id = sent.id_of(value)
            self._do(sent.client_event(value))
        except Refused as refused:
            self.refuse(refused, event_id)

    def refuse(self, refused: Refused, event_id: str | None = None) -> None:
        """Tell the client what can't be done."""
        REFUSALS.labels(code=refused.code).inc()
        body = ErrorBody(
            code=refused.code, message=refused.message, param=refused.param, event_id=event_id
        )
        self._emit(ErrorEvent(error=body))

    def _do(self, event: sent.AnyClientEvent) -> None:
        match event:
            case sent.Append():
                self._hearing.append(event.audio)
            case sent.Commit():
                self._hearing.commit()
            case sent.Clear():
                self._hearing.clear()
                self._emit(BufferCleared())
            case sent.SessionUpdate():
                self._change(event.session)
                self._emit(SessionUpdated(session=self.session))
            case sent.CreateItem():
                self._create(event)
            case sent.RetrieveItem():
                entry = self._conversation.find(event.item_id)
                self._emit(ItemRetrieved(item=shown(entry.item)))
            case sent.TruncateItem():
                self._truncate(event)
            case sent.DeleteItem():
                self._conversation.delete(event.item_id)
                self._emit(ItemDeleted(item_id=event.item_id))
            case sent.CreateResponse():
                self._answering.create(self.session, event.response)
            case sent.CancelResponse():
                self._answering.cancel(event.response_id)
            case sent.ClearOutput():
                raise Refused(
                    "unsupported_event",
                    "output_audio_buffer.clear: belongs to WebRTC and SIP; over a WebSocket the "
                    "client stops its own playback",
                )

    def _change(self, update: dict[str, Any]) -> None:
        session = updated(self.session, update)
        self.session = session
        self._hearing.configure(session.audio.input)
        if session.tools and not self._model.takes_tools and not self._told_of_tools:
            self._told_of_tools = True
            log.warning(
                "session %s: tools are given, and this model's chat template has no place for "
                "them; it will call none", session.id,
            )  # fmt: skip

    # Items

    def _create(self, event: sent.CreateItem) -> None:
        entry = self._entry(event.item)
        previous = self._conversation.add(entry, event.previous_item_id)
        self._tell_of(entry, previous)

    def _tell_of(self, entry: Entry, previous: str | None) -> None:
        item = shown(entry.item)
        self._emit(ItemAdded(previous_item_id=previous, item=item))
        self._emit(ItemDone(previous_item_id=previous, item=item))

    def _entry(self, item: Item) -> Entry:
        """An item with its sound as the model takes it. Raises Refused for what it can't take."""
        entry = Entry(item)
        if not isinstance(item, MessageItem):
            return entry
        for place, part in enumerate(item.content):
            where = f"item.content[{place}]"
            for text in filter(None, (part.text, part.transcript)):
                if token := self._model.control_token_in(text):
                    raise Refused(
                        "invalid_value", f"{where}: holds {token}, which steers the model",
                        param=where,
                    )  # fmt: skip
            heard = part.type == "input_audio" and part.audio is not None
            entry.recordings.append(self._recording(part.audio or "", where) if heard else None)
            part.audio = None  # the client has it
        return entry

    def _recording(self, audio: str, where: str) -> Recording:
        kind = self.session.audio.input.format.type
        samples = WireDecoder(kind).decode(read_base64(audio, kind, f"{where}.audio"), last=True)
        return Recording(samples)

    def _read_input(self, values: list[dict[str, Any]]) -> Asked:
        """The items that a response is to answer instead of the conversation."""
        entries: list[Entry] = []
        for place, value in enumerate(values):
            if value.get("type") == "item_reference":
                entries.append(self._conversation.find(str(value.get("id"))))
                continue
            try:
                entries.append(self._entry(ITEM.validate_python(value)))
            except ValidationError as error:
                raise refusal(error, f"response.input[{place}]") from None
        return asked_of(entries)

    def _truncate(self, event: sent.TruncateItem) -> None:
        entry = self._conversation.find(event.item_id)
        item = entry.item
        if not isinstance(item, MessageItem) or item.role != "assistant":
            raise Refused(
                "invalid_value", f"item_id={event.item_id!r}: only what the model said can be cut",
                param="item_id",
            )  # fmt: skip
        if entry.said is not None and not self._answering.cut(item.id, event.audio_end_ms):
            entry.said.cut(event.audio_end_ms)
            speaks = item.content[0].type == "output_audio"
            words = {"transcript" if speaks else "text": entry.said.text}
            item.content[0] = Part(type=item.content[0].type, **words)
        self._emit(
            ItemTruncated(
                item_id=item.id, content_index=event.content_index, audio_end_ms=event.audio_end_ms
            )
        )

    # Turns

    def _speech_started(self, item_id: str, at_ms: int) -> None:
        detection = self.session.audio.input.turn_detection
        interrupts = detection is not None and detection.interrupt_response
        if interrupts:
            self._answering.mute()
        self._emit(SpeechStarted(item_id=item_id, audio_start_ms=at_ms))
        if interrupts:
            self._answering.stop("turn_detected")

    def _speech_stopped(self, item_id: str, at_ms: int) -> None:
        self._emit(SpeechStopped(item_id=item_id, audio_end_ms=at_ms))

    def _turn(self, item_id: str, recording: Recording) -> None:
        item = MessageItem(id=item_id, role="user", content=[Part(type="input_audio")])
        entry = Entry(item, [recording])
        detection = self.session.audio.input.turn_detection
        previous = self._conversation.last_id
        self._conversation.add(entry)
        self._emit(BufferCommitted(item_id=item_id, previous_item_id=previous))
        self._tell_of(entry, previous)
        self._transcribe(item, recording)
        if detection is not None and detection.create_response:
            self._answering.want(self.session)

    def _transcribe(self, item: MessageItem, recording: Recording) -> None:
        if self.session.audio.input.transcription is None:
            return
        recogniser, samples = self._model.recogniser, recording.samples
        if recogniser is None or samples is None:
            self._untold(item.id, "no_recogniser", "this server has no recogniser configured")
            return

        def work() -> None:
            try:
                words = recogniser(samples)
            except Exception:
                log.exception("the recogniser failed")
                failure = (item.id, "transcription_failed", "the recogniser failed")
                self._post(lambda: self._untold(*failure))
            else:
                self._post(lambda: self._told(item, words, len(samples) / SAMPLE_RATE))

        self._in_background(work)

    def _told(self, item: MessageItem, words: str, seconds: float) -> None:
        item.content[0].transcript = words
        self._emit(
            TranscriptionCompleted(
                item_id=item.id, transcript=words, usage=DurationUsage(seconds=seconds)
            )
        )

    def _untold(self, item_id: str, code: str, message: str) -> None:
        kind = "server_error" if code == "transcription_failed" else "invalid_request_error"
        body = ErrorBody(type=kind, code=code, message=f"No transcript: {message}")
        self._emit(TranscriptionFailed(item_id=item_id, error=body))

    def _emit(self, event: ServerEvent) -> None:
        self._outbox.put(event)
