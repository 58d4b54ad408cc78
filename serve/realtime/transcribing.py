"""What a client said, in words: by a recogniser if the server has one, else a clear failure."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from omni.audio import SAMPLE_RATE
from serve.realtime.events import (
    DurationUsage,
    ErrorBody,
    ServerEvent,
    TranscriptionCompleted,
    TranscriptionFailed,
)
from serve.realtime.items import MessageItem
from serve.realtime.served import Recogniser

log = logging.getLogger(__name__)


class Transcribing:
    """post: does on the connection's thread what comes from another one. in_background: the
    opposite."""

    def __init__(
        self,
        recogniser: Recogniser | None,
        emit: Callable[[ServerEvent], None],
        *,
        post: Callable[[Callable[[], None]], None],
        in_background: Callable[[Callable[[], None]], None],
    ) -> None:
        self._recogniser = recogniser
        self._emit = emit
        self._post = post
        self._in_background = in_background

    def transcribe(self, item: MessageItem, samples: np.ndarray) -> None:
        """Tell the words of a turn, or that there are none; the answer doesn't wait for them."""
        if (recogniser := self._recogniser) is None:
            self._fail(item.id, "no_recogniser", "this server has no recogniser configured")
            return

        def work() -> None:
            try:
                words = recogniser(samples)
            except Exception:
                log.exception("the recogniser failed")
                self._post(
                    lambda: self._fail(item.id, "transcription_failed", "the recogniser failed")
                )
            else:
                self._post(lambda: self._tell(item, words, len(samples) / SAMPLE_RATE))

        self._in_background(work)

    def _tell(self, item: MessageItem, words: str, seconds: float) -> None:
        item.content[0].transcript = words
        usage = DurationUsage(seconds=seconds)
        self._emit(TranscriptionCompleted(item_id=item.id, transcript=words, usage=usage))

    def _fail(self, item_id: str, code: str, message: str) -> None:
        kind = "server_error" if code == "transcription_failed" else "invalid_request_error"
        body = ErrorBody(type=kind, code=code, message=f"No transcript: {message}")
        self._emit(TranscriptionFailed(item_id=item_id, error=body))
