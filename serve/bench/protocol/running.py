"""The whole measurement: so many clients at a time, with and without hearing voices."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from serve.bench.load import percentiles
from serve.bench.metrics_page import CPU
from serve.bench.protocol.client import Cycle, Found, ProtocolClient
from serve.bench.protocol.report import ProtocolRow


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """url: of the server. questions: each [n] float32, 16 kHz; a client has one of them. seconds:
    that each number of clients is measured for; every_s: from a client's question to its next.
    read: the server's metrics by name. done: called after each row."""

    url: str
    questions: Sequence[np.ndarray]
    seconds: float
    every_s: float
    read: Callable[..., list[float]]
    seed: int = 0
    done: Callable[[], object] = lambda: None

    def measure(self, counts: Sequence[int], hearing: Sequence[bool]) -> list[ProtocolRow]:
        """Each of these numbers of clients, each with these ways of hearing one after the other."""
        return [self._row(count, hears) for count in counts for hears in hearing]

    def _row(self, count: int, hears: bool) -> ProtocolRow:
        load = os.getloadavg()[0]
        spent, clients_spent = 0.0, 0.0

        async def all_of_them() -> list[Found]:
            nonlocal spent, clients_spent
            cycles = [Cycle.of(question, self.every_s) for question in self.questions]
            clients = [
                ProtocolClient(self.url, cycles[number % len(cycles)], hears)
                for number in range(count)
            ]
            random, opened = Random(self.seed), asyncio.Barrier(count + 1)
            tasks = [
                asyncio.create_task(
                    client.talk(
                        opened, self.seconds, phase=random.random(),
                        position=random.randrange(len(client.cycle.messages)),
                    )
                )
                for client in clients
            ]  # fmt: skip
            try:
                await opened.wait()
                before, clients_before = await self._spent(), time.process_time()
                await asyncio.sleep(self.seconds)
                spent = await self._spent() - before
                clients_spent = time.process_time() - clients_before
            except asyncio.BrokenBarrierError:
                pass  # the client that could not begin says why
            await asyncio.gather(*tasks)
            return [client.found for client in clients]

        found = asyncio.run(all_of_them())
        self.done()
        return ProtocolRow(
            sessions=count,
            hears=hears,
            asked=sum(one.asked for one in found),
            answered=sum(len(one.first_delta) for one in found),
            failed=sum(len(one.failed) for one in found),
            reasons=sorted({why for one in found for why in one.failed}),
            first_delta_ms=_ms(found, "first_delta"),
            append_ms=_ms(found, "append"),
            late_ms=_ms(found, "late"),
            server_cpu=spent / self.seconds,
            clients_cpu=clients_spent / self.seconds,
            load_before=load,
            load_after=os.getloadavg()[0],
        )

    async def _spent(self) -> float:
        """CPU seconds of the server so far."""
        (seconds,) = await asyncio.to_thread(self.read, CPU)
        return seconds


def _ms(found: Sequence[Found], name: str) -> dict[str, float]:
    return percentiles([1e3 * value for one in found for value in getattr(one, name)])
