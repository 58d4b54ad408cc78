"""What was said before, as its keeper gives it: exchanges that may be cut, left out or reordered.

A `SpeechSession` remembers by itself. Who serves a conversation that its client may edit keeps it
outside, and gives the past with each question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from omni.audio import mel_frames, pad_to_window
from omni.processor import OmniProcessor
from omni.prompt import Message, without_control_tokens
from omni.session import SpeechSession, Turn

KEPT_SHARE = 0.8  # of the LLM's positions; room is made in leaps, not anew with every question


@dataclass(eq=False)
class Recording:
    """A spoken question. samples: [n] float32 at 16 kHz; its keeper may drop them (None) when it
    stands in the past and has speech.

    The engine's thread fills in the rest. speech: [P, H], what the LLM reads of it. refused: it
    can't be heard (silence, too short, too long).
    """

    samples: np.ndarray | None
    speech: Tensor | None = None
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
    """A session whose past can be given."""

    def begin_after(self, past: Sequence[Exchange], question: Recording | str, room: int) -> Turn:
        """`begin` with what was pushed, which is this question, after this past.

        past: its recordings have been heard. Where the LLM has no positions for all of it and an
        answer of `room` tokens, the oldest is left out. Raises what `begin` raises.
        """
        if self._open is not None:
            self.remember(self._open)
        self._rewrite(_newest(list(past), question, self._processor, self._max_positions - room))
        return self.begin()

    def start_over(self) -> None:
        """Forget the question that was pushed so far; another must follow."""
        self.push_text("?")  # it takes the place of all, and audio that follows takes its place

    def _rewrite(self, past: Sequence[Exchange]) -> None:
        spoken = (exchange.question for exchange in past)
        recordings = [asked.speech for asked in spoken if isinstance(asked, Recording)]
        assert all(speech is not None for speech in recordings)
        same = len(recordings) == len(self._speech) and all(
            ours is theirs for ours, theirs in zip(recordings, self._speech, strict=True)
        )
        if not same:
            # Keys and values are found by their ids, and those of two recordings look alike.
            self._cache, self._cached_ids = None, []
        self.history = _messages(past, self._processor)
        self._speech = [speech for speech in recordings if speech is not None]


def _messages(past: Sequence[Exchange], processor: OmniProcessor) -> list[Message]:
    messages: list[Message] = []
    for exchange in past:
        asked, ids = exchange.question, exchange.answer_ids
        if isinstance(asked, str):
            messages.append(Message(role="user", text=asked))
        else:
            messages.append(Message(role="user", positions=_positions(asked, processor)))
        if ids is not None:
            ids = without_control_tokens(ids, processor.tokenizer)
        messages.append(Message(role="assistant", text=exchange.answer, ids=ids))
    return messages


def _newest(
    past: list[Exchange], question: Recording | str, processor: OmniProcessor, positions: int
) -> list[Exchange]:
    """As much of the past as leaves its place to the question, the newest first to stay."""
    if isinstance(question, str):
        asked = Message(role="user", text=question)
    else:
        asked = Message(role="user", positions=_positions(question, processor))

    def needed(kept: list[Exchange]) -> int:
        return len(processor.prompt([*_messages(kept, processor), asked]).ids)

    if not past or needed(past) <= positions:
        return past
    kept = past[1:]
    while kept and needed(kept) > KEPT_SHARE * positions:
        kept = kept[1:]
    return kept


def _positions(question: Recording, processor: OmniProcessor) -> int:
    """LLM positions of a recording; 1 for one that is too short, which is refused later."""
    if question.speech is not None:
        return question.speech.shape[0]
    assert question.samples is not None
    samples = question.samples
    if processor.config.pad_to_window:
        samples = pad_to_window(samples)
    return max(1, processor.positions(mel_frames(len(samples))))
