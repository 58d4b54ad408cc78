"""The whole measurement: each conversation alone, then many of them at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np

from omni.files import UserError
from serve.bench.load.client import Client, Session, Spoken
from serve.bench.load.playout import Playout
from serve.bench.load.report import Report, Row, Run, Watched
from serve.bench.metrics_page import CHUNKS, MEMORY, SOUND

SPREAD_S = 1.0  # clients begin at random within it: people do not start at one beat


@dataclass(kw_only=True)
class Load:
    """read: metrics of the server by their names; None: nobody tells them.

    schedules: of chunks, each asked of the server in runs of its own; None: whatever it has.
    rounds: how often each is measured. A client asks `turns` of the questions, one after the
    other; the next client begins with the next question. jitter_ms, buffer_ms: see Playout. done:
    called after each conversation.
    """

    url: str
    questions: Sequence[np.ndarray]
    turns: int
    jitter_ms: float
    buffer_ms: float
    manual: bool
    seed: int = 0
    api_key: str | None = None
    schedules: Sequence[str | None] = (None,)
    rounds: int = 1
    read: Callable[..., list[float]] | None = None
    done: Callable[[], object] = lambda: None
    _alone: dict[int, Session] = field(default_factory=dict[int, Session], init=False)

    def measure(self, counts: Sequence[int]) -> Report:
        """Each of these numbers of clients. Raises UserError if a lone client has no answer."""
        spoken = [Spoken.of(question, manual=self.manual) for question in self.questions]
        rows = asyncio.run(self._rows(spoken, counts))
        return Report(
            url=self.url,
            turns=self.turns,
            jitter_ms=self.jitter_ms,
            buffer_ms=self.buffer_ms,
            manual=self.manual,
            seed=self.seed,
            rounds=self.rounds,
            cores=len(os.sched_getaffinity(0)),
            rows=rows,
        )

    def conversations(self, count: int) -> int:
        """How many different ones so many clients have."""
        return min(count, len(self.questions))

    async def _rows(self, spoken: Sequence[Spoken], counts: Sequence[int]) -> list[Row]:
        client = Client(
            url=self.url, api_key=self.api_key, manual=self.manual, playout=self._playout(0)
        )
        for first in range(self.conversations(max(counts))):
            lone = await replace(client, in_real_time=False).converse(self._asked(spoken, first))
            if lone.end != "finished":
                raise UserError(f"{self.url}: a client alone is {lone.end} ({lone.why})")
            self._alone[first] = lone
            self.done()
        return [row for count in counts for row in await self._by_turns(client, spoken, count)]

    async def _by_turns(self, client: Client, spoken: Sequence[Spoken], count: int) -> list[Row]:
        """A row of each schedule. They take turns, so that a passing load hits them all."""
        runs: dict[str | None, list[Run]] = {schedule: [] for schedule in self.schedules}
        for _ in range(self.rounds):
            for schedule, found in runs.items():
                asking = replace(client, chunk_units=schedule)
                found.append(await self._run(asking, spoken, count))
        return [Row.of(found, schedule) for schedule, found in runs.items()]

    async def _run(self, client: Client, spoken: Sequence[Spoken], count: int) -> Run:
        before = await self._watch()
        random = Random(self.seed)

        async def one(number: int) -> Session:
            own = replace(client, playout=self._playout(1 + number))
            session = await own.converse(self._asked(spoken, number), waits[number])
            self.done()
            return session

        waits = [random.uniform(0.0, SPREAD_S) for _ in range(count)]
        sessions = await asyncio.gather(*map(one, range(count)))
        alone = [self._alone[number % len(spoken)] for number in range(count)]
        return Run(sessions=sessions, alone=alone, before=before, after=await self._watch())

    def _asked(self, spoken: Sequence[Spoken], first: int) -> list[Spoken]:
        return [spoken[(first + turn) % len(spoken)] for turn in range(self.turns)]

    def _playout(self, number: int) -> Callable[[], Playout]:
        random = Random(f"{self.seed} {number}")
        return lambda: Playout(self.buffer_ms / 1e3, self.jitter_ms / 1e3, random)

    async def _watch(self) -> Watched:
        load = os.getloadavg()[0]
        if self.read is None:
            return Watched(load=load)
        memory, chunks, sound_s = await asyncio.to_thread(self.read, MEMORY, CHUNKS, SOUND)
        return Watched(load=load, memory=memory, chunks=chunks, sound_s=sound_s)
