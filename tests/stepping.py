"""Turns of many lengths that a stepper steps together, each beside what it says alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from omni.session import AudioDelta, Done, SessionConfig, SpeechSession, Stepper, without_gradients
from omni.session.events import Event
from omni.session.sampling import Sampling
from omni.session.turn import Turn
from omni.vocoder import parse_schedule
from tests.talk import answer, session
from tests.tiny import question

WAVEFORM_BOUND = 1e-4  # the law of every streaming stage


def config(
    tokens: int, units: str = "3", sampling: Sampling | None = None, *, speak: bool = True
) -> SessionConfig:
    return SessionConfig(
        max_new_tokens=tokens, schedule=parse_schedule(units), right_context_frames=2,
        sampling=sampling or Sampling(), speak=speak,
    )  # fmt: skip


# Questions of many lengths, schedules of many kinds, greedy and drawn.
ASKED: list[tuple[np.ndarray | str, SessionConfig]] = [
    (question(1.0, seed=1), config(12)),
    ("How warm is it today?", config(20, "all", Sampling(temperature=1.0, seed=5))),
    (question(3.0, seed=2), config(9, speak=False)),
    ("What is two and two?", config(25, "1", Sampling(temperature=0.8, top_p=0.9, seed=9))),
    (question(0.5, seed=3), config(16, "7")),
    ("Tell me the capital of France.", config(5, "40")),
]
ALL = [*range(len(ASKED))]


@dataclass
class Talk:
    """A session, its open turn, and what was said so far."""

    session: SpeechSession
    turn: Turn
    events: list[Event] = field(default_factory=list[Event])
    error: Exception | None = None

    @property
    def runs(self) -> bool:
        return self.error is None and not (self.events and isinstance(self.events[-1], Done))

    @property
    def done(self) -> Done:
        last = self.events[-1]
        assert isinstance(last, Done)
        return last


def begin(number: int) -> Talk:
    asked, how = ASKED[number]
    talk = session(how)
    if isinstance(asked, str):
        talk.push_text(asked)
    else:
        talk.push_audio(asked)
    return Talk(talk, talk.begin())


@cache
def alone(number: int) -> tuple[list[Event], Done]:
    asked, how = ASKED[number]
    return answer(session(how), asked)


def step(stepper: Stepper, talks: Sequence[Talk]) -> None:
    """One token of each, or its end."""
    running = [talk for talk in talks if talk.runs]
    by_reply = {talk.turn.reply: talk for talk in running}
    ended = [talk for talk in running if talk.turn.reply.next_step_inputs() is None]
    for reply, event in stepper.step([talk.turn.reply for talk in running]):
        if isinstance(event, Exception):
            by_reply[reply].error = event
            by_reply[reply].session.forget(by_reply[reply].turn)
        else:
            by_reply[reply].events.append(event)
    for talk in ended:
        for event in without_gradients(talk.turn.reply.finish()):
            if isinstance(event, Done):
                talk.session.remember(talk.turn)
            talk.events.append(event)


def run_out(stepper: Stepper, talks: Sequence[Talk]) -> None:
    while any(talk.runs for talk in talks):
        step(stepper, talks)


def chunks(events: Sequence[Event]) -> list[AudioDelta]:
    return [event for event in events if isinstance(event, AudioDelta)]


def check_said_as_alone(talk: Talk, number: int) -> None:
    events, expected = alone(number)
    done = talk.done
    assert (done.token_ids, done.text) == (expected.token_ids, expected.text)
    assert (done.units, done.reason) == (expected.units, expected.reason)
    assert [type(event) for event in talk.events] == [type(event) for event in events]
    for found, other in zip(chunks(talk.events), chunks(events), strict=True):
        assert found.units == other.units
        np.testing.assert_allclose(found.waveform, other.waveform, atol=WAVEFORM_BOUND)
