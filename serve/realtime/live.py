"""What the engine has been told of the question that is being spoken, and asking it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omni.engine import Deliver, EngineSession, Exchange, Recording


class LiveQuestion:
    """Sound goes to the engine while it is spoken, so that the work is done when it ends.

    The engine holds one question. Another that is asked in between takes its place, and what was
    being spoken is pushed again.
    """

    def __init__(self, engine: EngineSession) -> None:
        self._engine = engine
        self._spoken: list[np.ndarray] = []  # of the turn that has not ended
        self._ended: Recording | None = None  # the engine holds it, and nobody has asked it

    @property
    def samples(self) -> int:
        """How long the turn is so far."""
        return sum(map(len, self._spoken))

    def push(self, samples: np.ndarray) -> None:
        """More of the turn."""
        if not len(samples):
            return
        if self._ended is not None:  # the next turn begins before the one before it is asked
            self._engine.drop()
            self._ended = None
        self._spoken.append(samples)
        self._engine.push_audio(samples)

    def drop(self) -> None:
        """The turn never was."""
        self._spoken, self._ended = [], None
        self._engine.drop()

    def begin_anew(self) -> None:
        """The engine has forgotten all that was pushed."""
        if self._ended is not None:
            assert self._ended.samples is not None
            self._engine.push_audio(self._ended.samples)
        else:
            self._push_spoken()

    def end(self) -> Recording:
        """The turn is whole."""
        self._ended = Recording(np.concatenate(self._spoken))
        self._spoken = []
        return self._ended

    def ask(self, deliver: Deliver, question: Recording | str, past: Sequence[Exchange]) -> None:
        """Have a question answered: the turn that has just ended, or any other."""
        if question is not self._ended:
            self._engine.drop()
            if isinstance(question, Recording) and question.heard is None:
                assert question.samples is not None
                self._engine.push_audio(question.samples)
        self._ended = None
        self._engine.run(deliver, question, past)
        self._push_spoken()

    def _push_spoken(self) -> None:
        for samples in self._spoken:
            self._engine.push_audio(samples)
