"""Every way of asking, on the same questions, in turns: medians, and the same words from all."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from omni.vocoder import parse_schedule
from serve.bench.latency.agreement import check_same
from serve.bench.latency.answer import Answer, Asked, Clock
from serve.bench.latency.asking import Live, Ours
from serve.bench.latency.question import speech
from serve.bench.latency.reference import Reference
from serve.bench.latency.report import REFERENCE, Agreement, Row
from serve.bench.latency.sizes import Subject, variant

QUESTIONS_S = (3.0, 8.0)
CHUNK_UNITS = ("10", "20", "40", "60", "80", "100", "all", "auto")
GROWING_S = (2.0, 5.0, 10.0, 20.0)
SOON = "10"  # units per chunk where first audio is all that counts
REPLY_TO_S = 3.0  # the question whose reply is timed token by token
AROUND = 3  # tokens whose mean time is that of the last of them
WARM_UP_TOKENS = 4


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way of asking, and the plain algorithm on what it hears, which must say the same."""

    ask: Callable[[Asked], Answer]
    expected: Reference


Ways = Mapping[str, Way]
Answers = Mapping[str, list[Answer]]  # of each way, one per repeat


def ways_of(subject: Subject, clock: Clock, *, block_frames: int) -> Ways:
    """The reference first, then ours: heard as it hears, at true length, and live.

    live_blocks: an encoder in blocks; live_speculated: one that looks both ways, made ready in the
    pause after the question.
    """
    padded = variant(subject, pad_to_window=True)
    blocks = variant(subject, block_frames=block_frames)
    reference = Reference(padded, clock)
    true_length = Reference(subject, clock, padded=False)
    return {
        REFERENCE: Way(ask=reference.ask, expected=reference),
        "padded": Way(ask=Ours(padded, clock).ask, expected=reference),
        "true_length": Way(ask=Ours(subject, clock).ask, expected=true_length),
        "live_blocks": Way(
            ask=Live(blocks, clock).ask, expected=Reference(blocks, clock, padded=False)
        ),
        "live_speculated": Way(
            ask=Live(subject, clock, speculate=True).ask, expected=true_length
        ),
    }  # fmt: skip


@dataclass
class Bench:
    """Ways on one set of weights. reply_tokens: of a reply that is waited for as a whole; done:
    called after each answer."""

    ways: Ways
    reply_tokens: int
    repeats: int
    done: Callable[[], object] = lambda: None
    agreement: Agreement = field(default_factory=lambda: Agreement(answers=0, ties=0))

    def warm_up(self) -> None:
        """Each way once: the first forward of a program pays for set-up that no later one pays.

        Raises RuntimeError if they say different things, before long measuring.
        """
        schedule = parse_schedule("1")
        self._in_turns(
            self.ways,
            [Asked(waveform=speech(REPLY_TO_S), schedule=schedule, tokens=WARM_UP_TOKENS)],
            repeats=1,
        )

    def first_audio(self, questions_s: Sequence[float], chunk_units: Sequence[str]) -> list[Row]:
        """First audio of every way, by the length of the question and of the chunks."""
        cases = [(seconds, units) for seconds in questions_s for units in chunk_units]
        found = self._in_turns(
            self.ways,
            [
                Asked(
                    waveform=speech(seconds),
                    schedule=parse_schedule(units),
                    tokens=self.reply_tokens,
                    until_sound=True,
                )
                for seconds, units in cases
            ],
        )
        rows: list[Row] = []
        for (seconds, units), answers in zip(cases, found, strict=True):
            ahead = _medians(answers, lambda answer: answer.ahead_ms)
            row = Row(
                case={"question_s": f"{seconds:g}", "chunk_units": units},
                ms=_medians(answers, first_audio_of),
                pause_ms={name: ms for name, ms in ahead.items() if ms},
            )
            rows.append(row)
        return rows

    def replies(self, lengths: Sequence[int], places: Sequence[int]) -> tuple[list[Row], list[Row]]:
        """Text and units without sound, ours padded as the reference's: whole replies of so many
        tokens, and a token's time at these places of the longest."""
        ways = {name: self.ways[name] for name in (REFERENCE, "padded")}
        found = self._in_turns(
            ways,
            [Asked(waveform=speech(REPLY_TO_S), schedule=None, tokens=n) for n in lengths],
        )
        whole = [
            Row(case={"tokens": str(n)}, ms=_medians(answers, lambda answer: answer.total_ms))
            for n, answers in zip(lengths, found, strict=True)
        ]
        each = [
            Row(case={"at_token": str(place)}, ms=_medians(found[-1], partial(token_ms, place)))
            for place in places
        ]
        return whole, each

    def _in_turns(
        self, ways: Ways, cases: Sequence[Asked], *, repeats: int | None = None
    ) -> Sequence[Answers]:
        """All answers to each case; the ways take turns, so that drifting load hits all alike.

        Raises RuntimeError if one says something else.
        """
        found: list[dict[str, list[Answer]]] = [{name: [] for name in ways} for _ in cases]
        for _ in range(repeats or self.repeats):
            for asked, answers in zip(cases, found, strict=True):
                for name, way in ways.items():
                    answers[name].append(way.ask(asked))
                    self.done()
        self._check(ways, cases, found)
        return found

    def _check(self, ways: Ways, cases: Sequence[Asked], found: Sequence[Answers]) -> None:
        """All answers to one question against the plain algorithm's longest."""
        for question in {id(asked.waveform): asked.waveform for asked in cases}.values():
            here = [
                answers
                for asked, answers in zip(cases, found, strict=True)
                if asked.waveform is question
            ]
            expected: dict[int, Answer] = {}
            for name, way in ways.items():
                said = [answer for answers in here for answer in answers[name]]
                longest = max(said, key=lambda answer: len(answer.token_ids))
                whole = Asked(waveform=question, schedule=None, tokens=len(longest.token_ids))
                known = longest if name == REFERENCE else expected.get(id(way.expected))
                if known is None or len(known.token_ids) < whole.tokens:
                    known = way.expected.ask(whole)
                expected[id(way.expected)] = known
                for answer in said:
                    equal = check_same(way.expected, whole, known, answer)
                    self.agreement = Agreement(
                        answers=self.agreement.answers + 1,
                        ties=self.agreement.ties + (not equal),
                    )


def first_audio_of(answer: Answer) -> float:
    """Raises RuntimeError if it had no sound."""
    if answer.first_audio_ms is None:
        raise RuntimeError(
            f"{len(answer.token_ids)} tokens without a unit: these random weights are mute, so "
            "nothing can be measured on them; take another seed"
        )
    return answer.first_audio_ms


def token_ms(place: int, answer: Answer) -> float:
    """What the token at this place (from 1) took: the mean of it and the two before."""
    steps = [later - earlier for earlier, later in pairwise(answer.token_at_ms)]
    return statistics.mean(steps[place - 1 - AROUND : place - 1])


def _medians(answers: Answers, value: Callable[[Answer], float]) -> dict[str, float]:
    return {name: statistics.median(map(value, said)) for name, said in answers.items()}
