"""Replies in the making: what an engine steps, and what it tells while it does."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from omni.engine.past import RewritableSession
from omni.engine.urgency import Standing
from omni.session import (
    AudioDelta,
    Done,
    Reply,
    Stepper,
    TextDelta,
    Timings,
    Turn,
    without_gradients,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Begun:
    """The question was taken: the LLM reads so many positions, `spoken` of them recordings.

    cached: positions that an earlier turn has computed already.
    """

    positions: int
    spoken: int
    cached: int


EngineEvent = Begun | TextDelta | AudioDelta | Done | Exception
# Called on the model's thread: it must not wait for anything.
Deliver = Callable[[EngineEvent], None]


@dataclass(eq=False)
class Run:
    """One reply. paused: its listener has enough for now; cancelled: it wants no more; begun: when
    it was asked for, by time.perf_counter."""

    deliver: Deliver
    session: RewritableSession | None = None
    turn: Turn | None = None
    paused: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    begun: float = field(default_factory=time.perf_counter)

    def cancel(self) -> None:
        """From any thread: no further event but Done."""
        self.cancelled.set()
        if (turn := self.turn) is not None:
            turn.reply.cancel()

    def tell(self, event: EngineEvent) -> None:
        """Deliver an event; a listener that fails has its reply cancelled, and hurts no other."""
        try:
            self.deliver(event)
        except Exception:
            log.exception("a listener failed; its reply is cancelled")
            self.cancel()

    def standing(self) -> Standing:
        """How urgent its next step is. One that was cancelled ends at once: its place is wanted."""
        assert self.turn is not None
        reply = self.turn.reply
        left = -math.inf if self.cancelled.is_set() else reply.unplayed_seconds
        return Standing(self.begun, len(reply.token_ids), left)

    def waits(self) -> bool:
        """Whether there is nothing to do for it now."""
        return self.paused and not self.cancelled.is_set()


def step(stepper: Stepper, runs: Sequence[Run]) -> set[Run]:
    """One token of each of these replies, and the end of those that have ended: which they are.

    What fails fails for its reply alone: it is told, and the conversation is as before it.
    """
    ended: set[Run] = set()
    by_reply: dict[Reply, Run] = {}
    for run in runs:
        assert run.turn is not None
        if run.turn.reply.next_step_inputs() is None:
            ended.add(run)
            _finish(run)
        else:
            by_reply[run.turn.reply] = run
    try:
        for reply, event in stepper.step([*by_reply]):
            run = by_reply[reply]
            if isinstance(event, Exception):
                ended.add(run)
                _fail(run, event)
            else:
                run.tell(event)
    except Exception as error:  # of no reply's own work: no memory for what they share
        log.exception("a step failed; the replies that it would have made end")
        for run in set(by_reply.values()) - ended:
            ended.add(run)
            _fail(run, error)
    return ended


def _finish(run: Run) -> None:
    turn, session = run.turn, run.session
    assert turn is not None and session is not None
    try:
        for event in without_gradients(turn.reply.finish()):
            if isinstance(event, Done):
                session.remember(turn)
            run.tell(event)
    except Exception as error:
        _fail(run, error)


def _fail(run: Run, error: Exception) -> None:
    turn, session = run.turn, run.session
    assert turn is not None and session is not None
    session.forget(turn)
    run.tell(error)


def cancelled_early() -> Done:
    """The end of a reply that was cancelled before its question was looked at."""
    nothing = Timings(
        encode_ms=0.0, prefill_ms=0.0, first_token_ms=None, first_unit_ms=None,
        first_audio_ms=None, total_ms=0.0, audio_ms=0.0, real_time_factor=None,
    )  # fmt: skip
    return Done("", [], [], [], nothing, "cancelled")
