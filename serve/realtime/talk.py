"""One client's session without its network: client events in, server events into an outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from omni.audio import SAMPLE_RATE
from omni.engine import EngineSession, Recording
from serve.realtime import messages as sent
from serve.realtime.activity import Voice
from serve.realtime.answering import Answering, Post
from serve.realtime.conversation import Conversation, Entry
from serve.realtime.editing import Editing
from serve.realtime.events import (
    BufferCleared,
    BufferCommitted,
    ConversationBody,
    ConversationCreated,
    ErrorBody,
    ErrorEvent,
    ServerEvent,
    SessionCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
)
from serve.realtime.hearing import Hearing, TurnEnd
from serve.realtime.items import MessageItem, Part
from serve.realtime.limits import Limits
from serve.realtime.live import LiveQuestion
from serve.realtime.metrics import REFUSALS
from serve.realtime.outbox import Outbox
from serve.realtime.served import Model, check_told
from serve.realtime.session_object import Omni, SessionObject, updated
from serve.realtime.transcribing import Transcribing
from serve.realtime.wire import Refused, new_id

log = logging.getLogger(__name__)


class Talk:
    """`handle` takes one event of the client; what comes of it goes into the outbox."""

    def __init__(
        self,
        model: Model,
        engine: EngineSession,
        outbox: Outbox[ServerEvent],
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
        self.session = SessionObject(
            id=new_id("sess"), model=model.name, expires_at=int(now() + limits.session_s)
        )
        self._conversation_id = new_id("conv")
        self._conversation = Conversation(limits.items)
        self._told_of_tools = False
        self._check_told = partial(check_told, control_token_in=model.control_token_in)
        self._transcribing = Transcribing(
            model.recogniser, self._emit, post=post, in_background=in_background
        )
        live = LiveQuestion(engine)
        self._answering = Answering(
            engine, live, self._conversation, self._conversation_id, outbox,
            base=model.base, takes_system=model.takes_system,
            takes_tools=model.takes_tools, post=post,
            read_input=lambda values: self._editing.read_input(values),
        )  # fmt: skip
        longest = round(min(limits.utterance_s, model.longest_s) * SAMPLE_RATE)
        self._editing = Editing(
            self._conversation, self._emit,
            input_kind=lambda: self.session.audio.input.format.type,
            control_token_in=model.control_token_in, cut_later=self._answering.cut,
            longest=longest,
        )  # fmt: skip
        self._hearing = Hearing(
            live, self.session.audio.input, make_voice=make_voice,
            longest=longest, turn=self._turn,
            speech_started=self._speech_started, speech_stopped=self._speech_stopped,
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

    def handle(self, text: str, max_depth: int) -> Iterator[None]:
        """One message, with pauses in which others may be served. Whatever is wrong with it is told
        as an `error` event."""
        event_id = None
        try:
            value = sent.read_object(text, max_depth)
            event_id = sent.id_of(value)
            yield from self._do(sent.client_event(value))
        except Refused as refused:
            self.refuse(refused, event_id)

    def refuse(self, refused: Refused, event_id: str | None = None) -> None:
        """Tell the client what can't be done."""
        REFUSALS.labels(code=refused.code).inc()
        body = ErrorBody(
            code=refused.code, message=refused.message, param=refused.param, event_id=event_id
        )
        self._emit(ErrorEvent(error=body))

    def _do(self, event: sent.AnyClientEvent) -> Iterable[None]:
        match event:
            case sent.Append():
                return self._hearing.append(event.audio)
            case sent.Commit():
                self._hearing.commit()
            case sent.Clear():
                self._hearing.clear()
                self._emit(BufferCleared())
            case sent.SessionUpdate():
                self._change(event.session)
                self._emit(SessionUpdated(session=self.session))
            case sent.CreateItem():
                self._editing.create(event)
            case sent.RetrieveItem():
                self._editing.retrieve(event.item_id)
            case sent.TruncateItem():
                self._editing.truncate(event)
            case sent.DeleteItem():
                self._editing.delete(event.item_id)
            case sent.CreateResponse(response=params):
                self._check_told(params.instructions, params.tools, "response")
                self._answering.create(self.session, params)
            case sent.CancelResponse():
                self._answering.cancel(event.response_id)
            case sent.ClearOutput():
                raise Refused(
                    "unsupported_event",
                    "output_audio_buffer.clear: belongs to WebRTC and SIP; over a WebSocket the "
                    "client stops its own playback",
                )
        return ()

    def _change(self, update: dict[str, Any]) -> None:
        session = updated(self.session, update)
        self._check_told(session.instructions, session.tools, "session")
        self.session = session
        self._hearing.configure(session.audio.input)
        if session.tools and not self._model.takes_tools and not self._told_of_tools:
            self._told_of_tools = True
            log.warning(
                "session %s: tools are given, and this model's chat template has no place for "
                "them; it will call none", session.id,
            )  # fmt: skip

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

    def _turn(self, item_id: str, recording: Recording, end: TurnEnd) -> None:
        item = MessageItem(id=item_id, role="user", content=[Part(type="input_audio")])
        entry = Entry(item, [recording])
        detection = self.session.audio.input.turn_detection
        previous = self._conversation.last_id
        self._emit(BufferCommitted(item_id=item_id, previous_item_id=previous))
        self._editing.add(entry)
        if self.session.audio.input.transcription is not None and recording.samples is not None:
            self._transcribing.transcribe(item, recording.samples)
        if detection is None or not detection.create_response or end.by == "client":
            return  # by the protocol, who commits asks for the response as well
        shortest_ms = (self.session.omni or Omni()).false_interruption_ms
        if end.voice_ms is not None and end.voice_ms < shortest_ms:
            entry.passing = True
            if self._answering.go_on(self.session):
                return
            entry.passing = False  # there is nothing that it has interrupted
        self._answering.want(self.session, end.silence_ms)

    def _emit(self, event: ServerEvent) -> None:
        self._outbox.put(event)
