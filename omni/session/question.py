"""The question that is being asked: spoken or written, whichever was pushed last."""

from __future__ import annotations

import numpy as np

from omni.audio import SAMPLE_RATE, AudioError, check_finite
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.prompt import Message
from omni.session.listening import Listening
from omni.session.memory import Heard


class Question:
    """text: None while it is spoken. read: so many final positions, with the prompt before them,
    were given to the LLM ahead; None before the first."""

    def __init__(self, model: OmniForConditionalGeneration, processor: OmniProcessor) -> None:
        self._model = model
        self._processor = processor
        self.text: str | None = None
        self.listening = Listening(model, processor)
        self.read: int | None = None

    def hear(self, samples: np.ndarray) -> None:
        """[n] float in place of text. Raises AudioError for other forms, NaN and infinity."""
        samples = np.asarray(samples)
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(
                f"samples: {list(samples.shape)} {samples.dtype}, must be [n] floats in -1..1 at "
                f"{SAMPLE_RATE} Hz; omni.audio.load_audio and prepare give these"
            )
        samples = samples.astype(np.float32)
        check_finite(samples)
        self.text = None
        self.listening.push(samples)

    def write(self, text: str) -> None:
        """A text in place of all before. Raises ValueError if it is empty."""
        if not text.strip():
            raise ValueError(f"text={text!r}: a question needs at least one word")
        self.text, self.read = text.strip(), None
        self.listening = Listening(self._model, self._processor)

    def recall(self, heard: Heard) -> None:
        """A spoken question that was heard before, in place of all."""
        self.text, self.read = None, None
        self.listening = Listening(self._model, self._processor)
        self.listening.recall(heard)

    def so_far(self) -> tuple[Message, Heard]:
        """A spoken question that goes on: what was heard of it, in a message that has place for
        one position more, for at least one will follow."""
        heard = self.listening.heard()
        return Message(role="user", positions=len(heard.labels) + 1), heard

    def ended(self) -> tuple[Message, Heard | None]:
        """The question if nothing follows, and what was heard of it.

        Raises AudioError: nothing pushed, silence, too short, too long.
        """
        if self.text is not None:
            return Message(role="user", text=self.text), None
        heard = self.listening.ended()
        return Message(role="user", positions=len(heard.labels)), heard

    def going_on(self, since: Question) -> Question:
        """This question and what was pushed to another since it was taken, as one."""
        if since.text is not None:
            return since
        if since.listening.begun:
            self.text = None
            self.listening.push_all(since.listening)
        return self
