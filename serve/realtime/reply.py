"""One response in the making: what the engine says, as the protocol's events in their order."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from omni.audio import SAMPLE_RATE
from omni.engine import Begun
from omni.session import AudioDelta, TextDelta
from serve.realtime.conversation import Entry, Said
from serve.realtime.events import (
    AudioDeltaEvent,
    AudioDone,
    ContentPartAdded,
    ContentPartDone,
    ItemAdded,
    ItemDone,
    OutputItemAdded,
    OutputItemDone,
    ResponseCreated,
    ResponseDone,
    ServerEvent,
    ShownPart,
    TextDeltaEvent,
    TextDone,
    TranscriptDelta,
    TranscriptDone,
)
from serve.realtime.formats import WireEncoder, duration_ms
from serve.realtime.items import MessageItem, Part, shown
from serve.realtime.messages import ResponseParams
from serve.realtime.session_object import AudioOutput, SessionObject
from serve.realtime.wire import new_id

DELTA_SAMPLES = SAMPLE_RATE // 5  # at most 200 ms of sound in one event
Reason = Literal["turn_detected", "client_cancelled", "max_output_tokens"]
Status = Literal["completed", "cancelled", "failed", "incomplete"]


@dataclass(frozen=True)
class Heard:
    """The beginning of an answer: so many tokens, and samples at 16 kHz."""

    tokens: int = 0
    samples: int = 0


@dataclass(frozen=True, kw_only=True)
class ReplySettings:
    """What one response is made by. remembered: whether it becomes part of the conversation.
    heard: what the model will say again and the client has heard already, of an answer that goes
    on: it is left out."""

    conversation_id: str
    modality: Literal["text", "audio"]
    output: AudioOutput
    max_output_tokens: int | Literal["inf"]
    metadata: dict[str, str] | None
    remembered: bool
    heard: Heard

    @classmethod
    def of(
        cls, session: SessionObject, params: ResponseParams, conversation_id: str, heard: Heard
    ) -> ReplySettings:
        """What the response's own parameters don't name is the session's."""
        output = session.audio.output
        if params.audio is not None and params.audio.output is not None:
            given = params.audio.output
            named = {name: getattr(given, name) for name in given.model_fields_set}
            output = output.model_copy(update=named)
        return cls(
            conversation_id=conversation_id,
            modality=(params.output_modalities or session.output_modalities)[0],
            output=output,
            max_output_tokens=params.max_output_tokens or session.max_output_tokens,
            metadata=params.metadata,
            remembered=params.conversation == "auto",
            heard=heard,
        )


class Reply:
    """Events go out by `emit(event, audio_ms)`; audio_ms: None for all but deltas."""

    def __init__(
        self, settings: ReplySettings, emit: Callable[[ServerEvent, float | None], None]
    ) -> None:
        self.id = new_id("resp")
        self.settings = settings
        self.said = Said()
        self.units = 0
        self._emit = emit
        self._begun: Begun | None = None
        self._again = settings.heard  # what is left of it
        self._encoder = WireEncoder(settings.output.format.type)
        self._speaks = settings.modality == "audio"
        part = Part(type="output_audio" if self._speaks else "output_text")
        self.item = MessageItem(role="assistant", content=[part], status="in_progress")
        self.entry = Entry(self.item, said=self.said)
        self._previous_item_id: str | None = None

    @property
    def begun(self) -> bool:
        """Whether the model has taken the question."""
        return self._begun is not None

    def create(self) -> None:
        """It is wanted."""
        self._send(ResponseCreated(response=self._response("in_progress", [])))

    def begin(self, begun: Begun, previous_item_id: str | None) -> None:
        """The model has taken the question; the item stands after that one."""
        self._begun, self._previous_item_id = begun, previous_item_id
        item = shown(self.item) | {"content": []}
        self._send(OutputItemAdded(response_id=self.id, item=item))
        if self.settings.remembered:
            self._send(ItemAdded(previous_item_id=previous_item_id, item=item))
        self._send(ContentPartAdded(**self._place(), part=self._part("")))

    def text(self, event: TextDelta) -> None:
        """A token more."""
        if self._again.tokens:
            self._again = replace(self._again, tokens=self._again.tokens - 1)
            return
        self.said.tokens.append((event.token_id, event.text))
        if event.text:
            kind = TranscriptDelta if self._speaks else TextDeltaEvent
            self._send(kind(**self._place(), delta=event.text), 0.0)

    def audio(self, event: AudioDelta) -> None:
        """A chunk of sound more."""
        self.units += event.units
        waveform = event.waveform[self._again.samples :]
        left = self._again.samples - (len(event.waveform) - len(waveform))
        self._again = replace(self._again, samples=left)
        if not len(waveform):
            return
        end_ms = self.said.audio_ms + 1e3 * len(waveform) / SAMPLE_RATE
        self.said.chunks.append((end_ms, len(self.said.tokens)))
        for start in range(0, len(waveform), DELTA_SAMPLES):
            self._sound(waveform[start : start + DELTA_SAMPLES])

    def end(
        self, status: Status, *, reason: Reason | None = None, error: dict[str, Any] | None = None
    ) -> None:
        """No more of it. error: type, code and message where it failed."""
        if self.begun:
            if self._speaks and status in ("completed", "incomplete"):
                self._sound(np.empty(0, np.float32), last=True)
            self._close(status)
        output = [shown(self.item)] if self.begun else []
        details: dict[str, Any] = {"type": status}
        if reason is not None:
            details["reason"] = reason
        if error is not None:
            details["error"] = error
        self._send(ResponseDone(response=self._response(status, output, details)))
        if self._speaks and status in ("cancelled", "failed"):
            self.said.break_off()
            self.refresh()

    def cut(self, heard_ms: float) -> None:
        """It was heard so far and no further."""
        self.said.cut(heard_ms)
        self.refresh()

    @property
    def heard(self) -> Heard:
        """What is left of it after it was cut: a word that was broken off is to be said again."""
        before, ends_ms = self.settings.heard, self.said.words_end_ms or 0.0
        samples = round(ends_ms * SAMPLE_RATE / 1e3)
        return Heard(before.tokens + len(self.said.tokens), before.samples + samples)

    def refresh(self) -> None:
        """Bring the item's words to what was said, or heard."""
        text = self.said.text
        self.item.content[0] = (
            Part(type="output_audio", transcript=text)
            if self._speaks
            else Part(type="output_text", text=text)
        )

    def _close(self, status: Status) -> None:
        self.refresh()
        self.item.status = "completed" if status == "completed" else "incomplete"
        text, item = self.said.text, shown(self.item)
        if self._speaks:
            self._send(AudioDone(**self._place()))
            self._send(TranscriptDone(**self._place(), transcript=text))
        else:
            self._send(TextDone(**self._place(), text=text))
        self._send(ContentPartDone(**self._place(), part=self._part(text)))
        self._send(OutputItemDone(response_id=self.id, item=item))
        if self.settings.remembered:
            self._send(ItemDone(previous_item_id=self._previous_item_id, item=item))

    def _sound(self, waveform: np.ndarray, *, last: bool = False) -> None:
        data = self._encoder.encode(waveform, last=last)
        if data:
            delta = base64.b64encode(data).decode()
            self._send(
                AudioDeltaEvent(**self._place(), delta=delta),
                duration_ms(data, self._encoder.kind),
            )

    def _send(self, event: ServerEvent, audio_ms: float | None = None) -> None:
        self._emit(event, audio_ms)

    def _place(self) -> dict[str, Any]:
        return {"response_id": self.id, "item_id": self.item.id}

    def _part(self, text: str) -> ShownPart:
        if self._speaks:
            return ShownPart(type="audio", transcript=text)
        return ShownPart(type="text", text=text)

    def _response(
        self, status: str, output: list[dict[str, Any]], details: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        settings = self.settings
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": output,
            "conversation_id": settings.conversation_id if settings.remembered else None,
            "output_modalities": [settings.modality],
            "max_output_tokens": settings.max_output_tokens,
            "audio": {
                "output": {
                    "format": settings.output.format.model_dump(),
                    "voice": settings.output.voice,
                }
            },
            "metadata": settings.metadata,
            "usage": self._usage() if status != "in_progress" else None,
        }

    def _usage(self) -> dict[str, Any]:
        begun = self._begun or Begun(0, 0, 0)
        text = len(self.said.tokens)
        return {
            "input_tokens": begun.positions,
            "output_tokens": text + self.units,
            "total_tokens": begun.positions + text + self.units,
            "input_token_details": {
                "text_tokens": begun.positions - begun.spoken,
                "audio_tokens": begun.spoken,
                "cached_tokens": begun.cached,
            },
            "output_token_details": {"text_tokens": text, "audio_tokens": self.units},
        }
