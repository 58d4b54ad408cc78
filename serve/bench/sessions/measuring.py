"""Tokens per second of one session, of several that take turns, and of several together."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from omni.session import Reply, SessionConfig, SpeechSession, Stepper, TextDelta, without_gradients
from omni.vocoder import parse_schedule
from serve.bench.latency import Clock, Subject, speech, variant
from serve.bench.sessions.report import Row

CHUNK_UNITS = "10"
# Questions of several lengths, so that sessions are of different ages.
SHORTEST_S, LONGER_BY_S, LENGTHS = 1.0, 0.5, 8


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a session makes of its tokens."""

    subject: Subject
    speak: bool


def works(subject: Subject) -> dict[str, Work]:
    """Text alone, units too, and sound too: each has the work of those before it."""
    mute = variant(subject)
    mute.model.unit_decoder = None
    return {
        "text": Work(subject=mute, speak=False),
        "units": Work(subject=subject, speak=False),
        "sound": Work(subject=subject, speak=True),
    }


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one run said: the tokens of each session, and all of them per second."""

    tokens: list[tuple[int, ...]]
    per_second: float
    forwards: int  # of the LLM, after the prompts


@dataclass
class Bench:
    """tokens: of each session's reply. done: called after each run."""

    clock: Clock
    tokens: int
    repeats: int
    done: Callable[[], object] = lambda: None
    unlike: int = field(default=0, init=False)
    compared: int = field(default=0, init=False)
    one_by_one: str | None = field(default=None, init=False)

    def run(self, work: Work, sessions: int, *, together: bool) -> Said:
        """All sessions from their first token to their last; prompts are read before the clock."""
        replies = [self._reply(work, number) for number in range(sessions)]
        groups = [replies] if together else [[reply] for reply in replies]
        steppers = [Stepper(work.subject.model) for _ in groups]
        said: dict[Reply, list[int]] = {reply: [] for reply in replies}
        forwards = 0

        def count(*_: Any) -> None:
            nonlocal forwards
            forwards += 1

        def step() -> None:
            for stepper, group in zip(steppers, groups, strict=True):
                for reply, event in stepper.step(group):
                    if isinstance(event, Exception):
                        raise event
                    if isinstance(event, TextDelta):
                        said[reply].append(event.token_id)

        step()
        hook = work.subject.model.language_model.register_forward_pre_hook(count)
        started = self.clock()
        while any(reply.next_step_inputs() is not None for reply in replies):
            step()
        for reply in replies:
            for _ in without_gradients(reply.finish()):
                pass
        seconds = (self.clock() - started) / 1e3
        hook.remove()
        self.one_by_one = self.one_by_one or steppers[0].one_by_one
        made = sum(len(tokens) - 1 for tokens in said.values())
        self.done()
        return Said(
            tokens=[tuple(tokens) for tokens in said.values()],
            per_second=made / seconds,
            forwards=forwards,
        )

    def row(self, name: str, work: Work, sessions: int) -> Row:
        """One, by turns and together, in turns, so that drifting load hits all alike."""
        runs: dict[str, list[Said]] = {"one": [], "by_turns": [], "together": []}
        for _ in range(self.repeats):
            runs["one"].append(self.run(work, 1, together=True))
            runs["by_turns"].append(self.run(work, sessions, together=False))
            runs["together"].append(self.run(work, sessions, together=True))
        for alone, beside in zip(runs["by_turns"], runs["together"], strict=True):
            pairs = [*zip(alone.tokens, beside.tokens, strict=True)]
            self.compared += len(pairs)
            self.unlike += sum(one != other for one, other in pairs)
        return Row(
            work=name,
            sessions=sessions,
            tokens_per_second={
                way: statistics.median(said.per_second for said in found)
                for way, found in runs.items()
            },
            llm_forwards={way: found[-1].forwards for way, found in runs.items()},
        )

    def rows(self, subject: Subject, counts: Sequence[int]) -> list[Row]:
        """Every kind of work with every number of sessions."""
        found: list[Row] = []
        for name, work in works(subject).items():
            self.run(work, max(counts), together=True)  # set-up that no later run pays
            found += [self.row(name, work, sessions) for sessions in counts]
        return found

    def _reply(self, work: Work, number: int) -> Reply:
        config = SessionConfig(
            schedule=parse_schedule(CHUNK_UNITS), max_new_tokens=self.tokens, speak=work.speak
        )
        session = SpeechSession(work.subject.model, work.subject.processor, config)
        seconds = SHORTEST_S + LONGER_BY_S * (number % LENGTHS)
        session.push_audio(speech(seconds, seed=number))
        return session.begin().reply


def runs_of(counts: Sequence[int], repeats: int) -> int:
    """How many runs `Bench.rows` makes."""
    return 3 * (1 + 3 * repeats * len(counts))
