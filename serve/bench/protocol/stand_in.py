"""What stands in the place of an engine: it answers every question at once with the same events.

It has a thread of its own and is told everything that an engine is told, so that what it costs to
reach a model's thread and to come back from it is in what is measured. No model is behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import torch

from omni.audio import SAMPLE_RATE
from omni.engine import Begun, Deliver, EngineEvent, EngineFull, Exchange, Recording
from omni.session import AudioDelta, Done, Heard, SessionConfig, TextDelta, Timings

CHUNK_S = 0.2  # of sound: ten units before repeats are merged, and as much as one event holds
WORD = " word"


def prepared_answer(seconds: float) -> tuple[EngineEvent, ...]:
    """What a model would say: a word and a chunk of sound by turns, then the end.

    seconds: of sound, a quiet noise that is always the same.
    """
    chunks = max(1, round(seconds / CHUNK_S))
    random = np.random.default_rng(0)
    words = [TextDelta(WORD, number) for number in range(chunks)]
    sound = [
        AudioDelta(random.normal(0, 0.05, round(CHUNK_S * SAMPLE_RATE)).astype(np.float32), 10, n)
        for n in range(chunks)
    ]
    timings = Timings(
        encode_ms=0.0, prefill_ms=0.0, first_token_ms=0.0, first_unit_ms=0.0, first_audio_ms=0.0,
        total_ms=0.0, audio_ms=1e3 * CHUNK_S * chunks, real_time_factor=0.0,
    )  # fmt: skip
    done = Done(WORD * chunks, [*range(chunks)], [], [], timings, "end")
    said = [event for pair in zip(words, sound, strict=True) for event in pair]
    return (Begun(positions=64, spoken=32, cached=32), *said, done)


@dataclass(eq=False)
class _Run:
    """One answer: what is still to be told of it."""

    deliver: Deliver
    left: Iterator[EngineEvent]
    paused: bool = False
    ended: bool = False

    def tell(self) -> None:
        event = next(self.left, None)
        if event is None or self.ended:
            self.ended = True
        else:
            self.deliver(event)

    def waits(self) -> bool:
        return self.paused and not self.ended


class StandInEngine:
    """Takes the calls of `omni.engine.Engine` that a server makes."""

    def __init__(self, answer: Sequence[EngineEvent], *, max_sessions: int) -> None:
        self.answer = answer
        self.max_sessions = max_sessions
        self._open: set[StandInSession] = set()
        self._runs: list[_Run] = []
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="omni-stand-in", daemon=True)
        self._thread.start()

    def open(self, config: SessionConfig | None = None) -> StandInSession:
        """A new conversation. Raises EngineFull where `max_sessions` are open."""
        if len(self._open) >= self.max_sessions:
            raise EngineFull(f"{len(self._open)} sessions are open; close one")
        session = StandInSession(self)
        self._open.add(session)
        return session

    @property
    def sessions(self) -> int:
        """How many are open."""
        return len(self._open)

    def alive(self) -> bool:
        """Whether its thread works."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread; nothing is told any more."""
        self._closed = True
        self.post(lambda: None)
        self._thread.join()

    def __enter__(self) -> StandInEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What sessions use

    def post(self, work: Callable[[], None]) -> None:
        """Do this on its thread, in the order of posting."""
        self._work.put(work)

    def start(self, run: _Run) -> None:
        """Tell this answer from now on. Its own thread only."""
        self._runs.append(run)

    def release(self, session: StandInSession) -> None:
        """The session is closed, and its place is free."""
        self._open.discard(session)

    def _loop(self) -> None:
        while not self._closed:
            self._do(wait=all(run.waits() for run in self._runs))
            for run in self._runs:
                if not run.paused:
                    run.tell()
            self._runs = [run for run in self._runs if not run.ended]

    def _do(self, *, wait: bool) -> None:
        try:
            while True:
                self._work.get(block=wait)()
                wait = False
        except Empty:
            return


@dataclass(eq=False)
class StandInSession:
    """Takes the calls of `omni.engine.EngineSession`; each goes to the thread and back."""

    _engine: StandInEngine
    heard: int = field(default=0, init=False)  # samples, of the question that is being spoken
    _run: _Run | None = field(default=None, init=False)

    def configure(
        self,
        config: SessionConfig,
        *,
        system: str | None = None,
        tools: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Nothing changes: there is one answer."""
        self.drop()

    def push_audio(self, samples: np.ndarray) -> None:
        """More of the spoken question: [n] float32, 16 kHz."""

        def work() -> None:
            self.heard += len(samples)

        self._engine.post(work)

    def drop(self) -> None:
        """Forget what was pushed of a question."""

        def work() -> None:
            self.heard = 0

        self._engine.post(work)

    def run(
        self, deliver: Deliver, question: Recording | str, past: Sequence[Exchange] = ()
    ) -> None:
        """Answer at once."""
        self.cancel()
        run = self._run = _Run(deliver, iter(self._engine.answer))

        def work() -> None:
            if isinstance(question, Recording):  # its samples may go, as after an engine
                question.heard = Heard(torch.zeros(0, 1), ())
            self.heard = 0
            self._engine.start(run)

        self._engine.post(work)

    def pause(self) -> None:
        """The answer waits."""
        if self._run is not None:
            self._run.paused = True

    def resume(self) -> None:
        """The answer goes on."""
        if self._run is not None and self._run.paused:
            self._run.paused = False
            self._engine.post(lambda: None)  # wakes the thread

    def tell_buffered(self, seconds: float, received: float) -> None:
        """What the listener has left to play changes nothing: all chunks are of one size."""

    def cancel(self) -> None:
        """The answer ends before its next event."""
        if self._run is not None:
            self._run.ended = True
            self._engine.post(lambda: None)

    def close(self) -> None:
        """End what runs and give the place to another session."""
        self.cancel()
        self._engine.release(self)
