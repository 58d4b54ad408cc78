"""What was said before, as its keeper gives it: exchanges that may be cut, left out or reordered.

A `SpeechSession` remembers by itself. Who serves a conversation that its client may edit keeps it
outside, and gives the past with each question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omni.prompt import Message, control_tokens, without_control_tokens
from omni.session import Heard, SpeechSession, Turn, spoken_in


@dataclass(eq=False)
class Recording:
    """A spoken question. samples: [n] float32 at 16 kHz; its keeper may drop them (None) when it
    was heard: it can be asked again without them.

    The engine's thread fills in the rest. heard: what the LLM reads of it. refused: it can't be
    heard (silence, too short, too long).
    """

    samples: np.ndarray | None
    heard: Heard | None = None
    refused: bool = False


@dataclass(frozen=True, eq=False)
class Exchange:
    """A question and what was said to it; an answer of "" where nothing was.

    answer_ids: the answer's tokens where the model said it itself, so that its prompt is the same
    and need not be computed again.
    """

    question: Recording | str
    answer: str = ""
    answer_ids: tuple[int, ...] | None = None


class RewritableSession(SpeechSession):
    """A session whose past can be given.

    What it has dropped of a conversation's beginning stays dropped while that beginning is given
    unchanged: else the LLM would have to read what is left anew at each question.
    """

    def reset(self) -> None:
        """As SpeechSession.reset."""
        self._left_out: list[Message] = []  # the beginning that was dropped
        super().reset()

    def remember(self, turn: Turn) -> None:
        """As SpeechSession.remember."""
        before, is_open = self.history, turn is self._open
        super().remember(turn)
        if is_open:
            self._left_out = [*self._left_out, *before[: turn.script.dropped]]

    def begin_after(self, past: Sequence[Exchange]) -> Turn:
        """`begin` with what was pushed, after this past, whose recordings have been heard.

        Keys and values of what it shares with what was said before are used. Raises what `begin`
        raises.
        """
        if self._open is not None:
            self.remember(self._open)
        recordings = [one.question for one in past if isinstance(one.question, Recording)]
        heard = [recording.heard for recording in recordings if recording.heard is not None]
        assert len(heard) == len(recordings)
        messages = self._messages(past)
        if messages[: len(self._left_out)] != self._left_out:
            self._left_out = []
        self._heard = heard[spoken_in(self._left_out) :]
        self.history = messages[len(self._left_out) :]
        return self.begin()

    def take(self, question: Recording | str) -> None:
        """The question, in place of all that was pushed, unless that is the question's sound."""
        if isinstance(question, str):
            self.push_text(question)
        elif question.heard is not None:
            self._question.recall(question.heard)

    def start_over(self) -> None:
        """Forget the question that was pushed so far; another must follow."""
        self.push_text("?")  # it takes the place of all, and audio that follows takes its place

    def _messages(self, past: Sequence[Exchange]) -> list[Message]:
        messages: list[Message] = []
        control = control_tokens(self._processor.tokenizer)
        for exchange in past:
            asked, ids = exchange.question, exchange.answer_ids
            if isinstance(asked, str):
                messages.append(Message(role="user", text=asked))
            else:
                assert asked.heard is not None
                messages.append(Message(role="user", positions=len(asked.heard.labels)))
            if ids is not None:
                ids = without_control_tokens(ids, control)
            messages.append(Message(role="assistant", text=exchange.answer, ids=ids))
        return messages
