"""Responses of one session: one at a time, made by the engine, cancelled by client or speech."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from json import dumps, loads
from typing import Any

from omni.engine import Begun, EngineEvent, EngineSession
from omni.session import AudioDelta, Done, SessionConfig, TextDelta
from omni.vocoder import parse_schedule
from serve.realtime.conversation import Asked, Conversation
from serve.realtime.events import ServerEvent
from serve.realtime.listener import Listener
from serve.realtime.live import LiveQuestion
from serve.realtime.messages import ResponseParams
from serve.realtime.metrics import RESPONSES, count_answer
from serve.realtime.outbox import Outbox
from serve.realtime.reply import Heard, Reason, Reply, ReplySettings
from serve.realtime.session_object import SessionObject
from serve.realtime.timing import StageWatch
from serve.realtime.wire import Refused

log = logging.getLogger(__name__)

# What the engine calls on its own thread -> done on the connection's own, in order.
Post = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class _Given:
    """An answer, what was asked for it, and how much of it had been heard when somebody spoke."""

    reply: Reply
    params: ResponseParams
    asked: Asked
    listener: Listener
    heard_ms: float = 0.0


class Answering:
    """base: how the checkpoint answers. takes_system, takes_tools: see Model.
    read_input: the items that a response brings -> what is asked by them."""

    def __init__(
        self,
        engine: EngineSession,
        live: LiveQuestion,
        conversation: Conversation,
        conversation_id: str,
        outbox: Outbox[ServerEvent],
        *,
        base: SessionConfig,
        takes_system: bool,
        takes_tools: bool,
        post: Post,
        read_input: Callable[[list[dict[str, Any]]], Asked],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._listener = Listener()  # of the latest response
        self._latest: _Given | None = None
        self._interrupted: _Given | None = None  # by the voice that was heard last
        outbox.sound_sent = self._sound_sent
        self._engine = engine
        self._live = live
        self._conversation = conversation
        self._conversation_id = conversation_id
        self._outbox = outbox
        self._base = base
        self._takes_system = takes_system
        self._takes_tools = takes_tools
        self._post = post
        self._read_input = read_input
        # Tools as JSON, which can be compared.
        self._configured: tuple[SessionConfig, str | None, tuple[str, ...]] = (base, None, ())
        # What is answered when the running one has ended, and its silence_ms.
        self._wanted: tuple[SessionObject, int | None] | None = None
        self.active: Reply | None = None
        self._cut_ms: float | None = None
        self._after: str | None = None  # the item that the active response answers

    def create(
        self,
        session: SessionObject,
        params: ResponseParams | None = None,
        *,
        silence_ms: int | None = None,
        rest_of: _Given | None = None,
    ) -> None:
        """Answer now. Raises Refused where another response is active, or its input is bad.

        silence_ms: by which the end of the question was known. rest_of: an answer of which that is
        said which was not heard.
        """
        params = params or ResponseParams()
        if self.active is not None:
            raise Refused(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {self.active.id}. "
                "Wait until it is done, or cancel it",
            )
        if rest_of is not None:
            asked, heard = rest_of.asked, rest_of.reply.heard
        elif params.input is None:
            asked, heard = self._conversation.asked(), Heard()
        else:
            asked, heard = self._read_input(params.input), Heard()
        reply = self.active = self._reply(session, params, heard)
        self._listener = Listener()
        self._latest, self._interrupted = _Given(reply, params, asked, self._listener), None
        self._cut_ms, self._after = None, self._conversation.last_id
        reply.create()
        question = asked.question
        if question is None:  # nobody asked: what the model is told to say stands for it
            question = params.instructions or (asked.system[-1] if asked.system else None)
        if question is None:
            self._fail(
                reply, "invalid_request_error", "no_question",
                "conversation: holds no question; create an item of a user, or give instructions",
            )  # fmt: skip
            return
        watch = StageWatch(silence_ms) if session.omni and session.omni.timings else None

        def deliver(event: EngineEvent) -> None:
            if watch is not None:
                watch.see(event)
            self._post(lambda: self._hear(reply, event, watch))

        try:
            self._configure(session, params, asked)
            self._live.ask(deliver, question, asked.past)
        except Exception as error:  # else it would be active for ever, and no other could begin
            self._went_wrong(reply, error)
            return
        if self._outbox.is_full:  # of the response before
            self._engine.pause()

    def want(self, session: SessionObject, silence_ms: int | None = None) -> None:
        """Answer as soon as no other response is active."""
        if self.active is None:
            self.create(session, silence_ms=silence_ms)
        else:
            self._wanted = session, silence_ms

    def cancel(self, response_id: str | None = None) -> None:
        """At the client's wish. Raises Refused where there is nothing to cancel."""
        if self.active is None or response_id not in (None, self.active.id):
            raise Refused(
                "response_cancel_not_active", "Cancellation failed: no active response found"
            )
        self.stop("client_cancelled")
        self._latest = None  # what is stopped so does not go on after a cough

    def mute(self) -> None:
        """Somebody speaks: from here on nothing of the latest response is heard; `stop` is to
        follow."""
        self._interrupted = None
        if (latest := self._latest) is not None:
            now = self._now()
            unsent = self._outbox.drop_deltas(latest.reply.id)  # all may have been made already
            if latest.reply is self.active or unsent or latest.listener.left_s(now) > 0:
                self._interrupted = replace(latest, heard_ms=latest.listener.heard_ms(now))

    def go_on(self, session: SessionObject) -> bool:
        """It was no question: say what was not heard of the answer that it interrupted.

        The model says it all again, since it would say the same, and what was heard is left out.
        Whether there is such an answer.
        """
        given, self._interrupted = self._interrupted, None
        if given is None or self.active is not None or not given.reply.settings.remembered:
            return False
        if not given.reply.begun:  # nothing of it has come
            self.create(session, given.params)
        elif self._conversation.holds(given.reply.item.id):
            if given.reply.said.words_end_ms is None:  # else the client has told what it heard
                given.reply.cut(given.heard_ms)
            self.create(session, given.params, rest_of=given)
        else:  # the client has deleted it
            return False
        return True

    def stop(self, reason: Reason) -> None:
        """End the active response, if there is one: at once, whatever the engine is at."""
        if (reply := self.active) is None:
            return
        if reason == "turn_detected":
            self._wanted = None  # the turn that begins will ask for itself
        self._engine.cancel()
        self._outbox.drop_deltas(reply.id)
        self._end(reply, "cancelled", reason=reason)

    def cut(self, reply_item_id: str, audio_end_ms: float) -> bool:
        """Whether that item is being made; it is cut when it ends."""
        making = self.active is not None and self.active.item.id == reply_item_id
        latest = self._latest
        if making:
            self._cut_ms = audio_end_ms
        elif self._interrupted is None and latest and latest.reply.item.id == reply_item_id:
            self._latest = None  # the client has stopped playing it, and nobody has spoken
        return making

    def close(self) -> None:
        """Nobody listens any more."""
        self.active = self._wanted = None
        self._engine.close()

    def _reply(self, session: SessionObject, params: ResponseParams, heard: Heard) -> Reply:
        settings = ReplySettings.of(session, params, self._conversation_id, heard)
        reply_id: list[str] = []

        def emit(event: ServerEvent, audio_ms: float | None) -> None:
            of = reply_id[0] if audio_ms is not None else None
            self._outbox.put(event, delta_of=of, audio_ms=audio_ms or 0.0)

        reply = Reply(settings, emit)
        reply_id.append(reply.id)
        return reply

    def _configure(self, session: SessionObject, params: ResponseParams, asked: Asked) -> None:
        reply = self.active
        assert reply is not None
        limit = reply.settings.max_output_tokens
        config = replace(
            self._base,
            speak=reply.settings.modality == "audio",
            max_new_tokens=self._base.max_new_tokens if limit == "inf" else limit,
        )
        if session.omni is not None and session.omni.chunk_size is not None:
            config = replace(config, schedule=parse_schedule(session.omni.chunk_size))
        system = None
        if self._takes_system:
            said = params.instructions if params.instructions else session.instructions
            system = "\n".join(filter(None, [said, *asked.system])) or None
        given = (params.tools if params.tools is not None else session.tools) or []
        tools = tuple(dumps(tool.template_form()) for tool in given) if self._takes_tools else ()
        if self._configured != (config, system, tools):
            self._configured = (config, system, tools)
            self._engine.configure(config, system=system, tools=[loads(tool) for tool in tools])
            self._live.begin_anew()

    def _hear(self, reply: Reply, event: EngineEvent, watch: StageWatch | None) -> None:
        """What the engine says, on the connection's thread; of an ended response only how long it
        took counts."""
        if watch is not None and isinstance(event, Done):
            self._outbox.put(watch.timings(reply.id, event.timings))
        if reply is not self.active:
            return
        if isinstance(event, Begun):
            self._begin(reply, event)
        elif isinstance(event, TextDelta):
            reply.text(event)
        elif isinstance(event, AudioDelta):
            reply.audio(event)
        elif isinstance(event, Done):
            count_answer(event)
            if event.reason == "length":
                self._end(reply, "incomplete", reason="max_output_tokens")
            elif event.reason == "end":
                self._end(reply, "completed")
            else:  # the engine itself is being closed
                self._end(reply, "cancelled")
        elif isinstance(event, ValueError):  # AudioError too
            if not reply.begun:
                self._pass_over_the_question()
            self._fail(reply, "invalid_request_error", "question_refused", str(event))
        else:
            self._went_wrong(reply, event)

    def _sound_sent(self, response_id: str, audio_ms: float) -> None:
        if self._latest is None or self._latest.reply.id != response_id:
            return
        left = self._listener.sent(audio_ms / 1e3, self._now())
        if self._latest.reply is self.active:  # what it is still making goes by that
            self._engine.tell_buffered(left, self._listener.sent_s)

    def _begin(self, reply: Reply, begun: Begun) -> None:
        previous = None
        if reply.settings.remembered:
            # After what it answers, whatever has been added since.
            after = self._after if self._conversation.holds(self._after) else None
            try:
                previous = self._conversation.add(reply.entry, after)
            except Refused as refused:
                self._engine.cancel()
                self._fail(reply, "invalid_request_error", refused.code, refused.message)
                return
        reply.begin(begun, previous)

    def _pass_over_the_question(self) -> None:
        """A refused text is no question, or all that is written after it would be refused with it;
        of recordings the engine knows by itself."""
        if (given := self._latest) is not None and given.params.input is None:
            for entry in given.asked.written:
                entry.passing = True

    def _went_wrong(self, reply: Reply, error: Exception) -> None:
        log.error("a response failed", exc_info=error)
        self._fail(
            reply, "server_error", "response_failed", "The server failed to make this response"
        )

    def _fail(self, reply: Reply, kind: str, code: str, message: str) -> None:
        self._end(reply, "failed", error={"type": kind, "code": code, "message": message})

    def _end(self, reply: Reply, status: Any, **details: Any) -> None:
        self.active = None
        RESPONSES.labels(status=status).inc()
        reply.end(status, **details)
        if self._cut_ms is not None:
            reply.cut(self._cut_ms)
        if self._wanted is not None:
            (session, silence_ms), self._wanted = self._wanted, None
            self.create(session, silence_ms=silence_ms)
