"""Engine: opens sessions and does the work of all of them on one thread.

All running replies go forward together, a token each: the LLM runs once for all of them, so that
none waits for another's end, and many cost little more than one. A caller never waits: what it asks
for is queued, and what comes of it is delivered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from omni.audio import AudioError
from omni.engine.past import Exchange, Recording, RewritableSession
from omni.engine.runs import Begun, Deliver, Run, cancelled_early, step
from omni.engine.urgency import STEP_SECONDS, StepCosts, most_urgent
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.session import SessionConfig, SpeechSession, Stepper, compile_steps

log = logging.getLogger(__name__)


class EngineFull(RuntimeError):
    """As many sessions are open as the engine takes."""


class Engine:
    """Many sessions, one model, one thread. `close` ends it; it is a context manager too."""

    def __init__(
        self, model: OmniForConditionalGeneration, processor: OmniProcessor, *, max_sessions: int
    ) -> None:
        """Raises ValueError if max_sessions is below 1."""
        if max_sessions < 1:
            raise ValueError(f"max_sessions={max_sessions}: must be at least 1")
        self.model = model
        self.processor = processor
        self.max_sessions = max_sessions
        self._open: set[EngineSession] = set()
        self._runs: list[Run] = []
        self._stepper = Stepper(model)
        self._costs = StepCosts()
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="omni-model", daemon=True)
        self._thread.start()

    def open(self, config: SessionConfig | None = None) -> EngineSession:
        """A new conversation; config: None takes what the checkpoint says.

        Raises EngineFull where `max_sessions` are open, RuntimeError after `close`.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("engine: closed; make a new one")
            if len(self._open) >= self.max_sessions:
                raise EngineFull(
                    f"{len(self._open)} sessions are open, as many as this engine takes; close one"
                )
            session = EngineSession(self, config or SessionConfig.from_model(self.model))
            self._open.add(session)
        return session

    @property
    def sessions(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def running(self) -> int:
        """How many replies are in the making."""
        return len(self._runs)

    @property
    def one_by_one(self) -> str | None:
        """Why the LLM steps replies one by one; None where it steps them together."""
        return self._stepper.one_by_one

    def compile(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Compile the steps, see `compile_steps`, before the first session; returns when it is
        done. On the model's thread: CUDA graphs are for the one that recorded them."""
        done = threading.Event()

        def work() -> None:
            try:
                compile_steps(self.model, sessions=self.max_sessions, progress=progress)
            finally:
                done.set()

        self.post(work)
        done.wait()

    def alive(self) -> bool:
        """Whether the model's thread works."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Cancel what runs and end the thread. Nothing is delivered any more."""
        with self._lock:
            self._closed = True
        self.post(lambda: None)
        self._thread.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What sessions use

    def post(self, work: Callable[[], None]) -> None:
        """Do this on the model's thread, in the order of posting."""
        self._work.put(work)

    def start(self, run: Run) -> None:
        """Step this reply from now on. Model's thread only."""
        self._runs.append(run)

    def release(self, session: EngineSession) -> None:
        """The session is closed, and its place is free."""
        with self._lock:
            self._open.discard(session)

    def _loop(self) -> None:
        while not self._closed:
            idle = all(run.waits() for run in self._runs)
            if idle:
                self._stepper.rest()
            self._do(wait=idle)
            ended = self._step([run for run in self._runs if not run.waits()])
            self._runs = [run for run in self._runs if run not in ended]

    def _step(self, runs: Sequence[Run]) -> set[Run]:
        """A token for those of them whose turn it is; which have ended."""
        began = time.perf_counter()
        places = most_urgent([run.standing() for run in runs], self._costs.most())
        ended = step(self._stepper, [runs[place] for place in places])
        if places:
            self._costs.took(len(places), time.perf_counter() - began)
        return ended

    def _someone_runs_dry(self) -> bool:
        return any(run.standing().runs_dry for run in self._runs if not run.waits())

    def _do(self, *, wait: bool) -> None:
        began = time.perf_counter()
        try:
            while True:
                work = self._work.get(block=wait)
                wait = False
                running = len(self._runs)
                try:
                    work()
                except Exception:
                    log.exception("work of one session failed; the others go on")
                # To begin a reply takes long, and so may a question whose pieces come at once.
                long = len(self._runs) > running or time.perf_counter() - began > STEP_SECONDS
                if running and long and self._someone_runs_dry():
                    return  # the rest after the next step
        except Empty:
            return


class EngineSession:
    """One conversation of an engine. Every method returns at once, and may be called from any
    thread; calls of one session are done in their order."""

    def __init__(self, engine: Engine, config: SessionConfig) -> None:
        self._engine = engine
        self._settings = (config, engine.processor)
        self._run: Run | None = None
        # The model's thread alone:
        self._session = RewritableSession(engine.model, engine.processor, config)
        self._stale = False

    def configure(
        self,
        config: SessionConfig,
        *,
        system: str | None = None,
        tools: Sequence[dict[str, Any]] = (),
    ) -> None:
        """How the replies from the next one on are made.

        system: the system message, None for the checkpoint's own. tools: what its chat template
        is to tell the model that it may call.
        """
        processor = self._engine.processor
        if system is not None or tools:
            processor = processor.with_prompt(system, tools)

        def work() -> None:
            self._session = RewritableSession(self._engine.model, processor, config)
            self._stale = False

        self._settings = (config, processor)
        self._engine.post(work)

    def push_audio(self, samples: np.ndarray) -> None:
        """More of the spoken question: [n] float32, 16 kHz. What is wrong with it, `run` tells; a
        piece of another form, or with NaN in it, is logged and left out."""

        def work() -> None:
            if self._stale:
                self._session.start_over()
                self._stale = False
            self._session.push_audio(samples)

        self._engine.post(work)

    def drop(self) -> None:
        """Forget what was pushed of a question."""

        def work() -> None:
            self._stale = True

        self._engine.post(work)

    def run(
        self, deliver: Deliver, question: Recording | str, past: Sequence[Exchange] = ()
    ) -> None:
        """Answer a question after this past; a reply that still runs is cancelled.

        question: a text, the recording that was pushed, or one that was heard before. Delivered
        are Begun, TextDelta and AudioDelta as they come, and Done at the end; or instead of Done an
        exception: AudioError and ValueError where the question is refused, others where its reply
        failed.
        """
        self.cancel()
        run = self._run = Run(deliver)
        _, processor = self._settings

        def work() -> None:
            if run.cancelled.is_set():
                self._stale = True
                run.tell(cancelled_early())
                return
            try:
                self._begin(run, question, past, processor)
            except Exception as error:
                if isinstance(question, Recording) and isinstance(error, AudioError):
                    question.refused = True
                run.tell(error)

        self._engine.post(work)

    def pause(self) -> None:
        """The reply that runs waits, and the others get its time."""
        if (run := self._run) is not None:
            run.paused = True

    def resume(self) -> None:
        """The reply goes on."""
        if (run := self._run) is not None and run.paused:
            run.paused = False
            self._engine.post(lambda: None)  # wakes the thread

    def tell_buffered(self, seconds: float, received: float) -> None:
        """What the listener has left to play of the reply that runs, see Reply.tell_buffered."""
        if (run := self._run) is not None and (turn := run.turn) is not None:
            turn.reply.tell_buffered(seconds, received)

    def cancel(self) -> None:
        """The reply that runs ends before its next event; where none runs nothing happens."""
        if (run := self._run) is not None:
            run.cancel()
            self._engine.post(lambda: None)

    def close(self) -> None:
        """Cancel what runs and give the place to another session."""
        self.cancel()
        self._engine.release(self)

    def _begin(
        self,
        run: Run,
        question: Recording | str,
        past: Sequence[Exchange],
        processor: OmniProcessor,
    ) -> None:
        self._session.take(question)
        self._stale = False
        heard = [exchange for exchange in past if self._hear(exchange.question, processor)]
        turn = self._session.begin_after(heard)
        if isinstance(question, Recording):
            question.heard = turn.heard
        inputs = turn.reply.next_step_inputs()
        assert inputs is not None
        run.session, run.turn = self._session, turn
        spoken = turn.prompt_ids.count(processor.audio_token_id)
        new = inputs.embeddings.shape[1]
        run.tell(Begun(len(turn.prompt_ids), spoken, len(turn.prompt_ids) - new))
        if run.cancelled.is_set():
            turn.reply.cancel()
        self._engine.start(run)

    def _hear(self, question: Recording | str, processor: OmniProcessor) -> bool:
        """Whether the LLM can read it; a recording that nobody answered is encoded now."""
        if isinstance(question, str) or question.heard is not None:
            return True
        if question.refused or question.samples is None:
            return False
        ear = SpeechSession(self._engine.model, processor, self._settings[0])
        ear.push_audio(question.samples)
        try:
            turn = ear.begin()
        except AudioError:
            question.refused = True
        else:
            question.heard = turn.heard
        return question.heard is not None
