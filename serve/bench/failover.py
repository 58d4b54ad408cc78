"""`omni-serve bench failover`: a replica is killed, and what the clients of the other notice."""

# Heavy imports stand inside the functions: `omni-serve --help` must not wait for torch.
from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni.files import UserError, need
from serve.bench.table import print_table

if TYPE_CHECKING:
    from serve.bench.load import Client, Session, Spoken

LOST = 1  # exit code; 2 is bad input
RESTARTING = "close code 1012"
REPLICAS = 2
PLACES = "omni_sessions_limit"
READY_S = 120.0  # until a replica that was killed serves again


@dataclass(frozen=True, kw_only=True)
class Round:
    """Conversations at the same time: all of them, or with a replica killed in their midst."""

    sessions: Sequence[Session]
    killed: bool
    load: float

    @property
    def told(self) -> int:
        """Sessions of the killed replica, which were told by 1012 that it restarts."""
        return sum(session.why.startswith(RESTARTING) for session in self.sessions)

    @property
    def lost(self) -> list[str]:
        """Why other sessions ended early, and answers that are not whole."""
        whole = [session for session in self.sessions if not session.why.startswith(RESTARTING)]
        failures = [turn.failure for session in whole for turn in session.turns if turn.failure]
        return [session.why for session in whole if session.end != "finished"] + failures

    @property
    def first_audio_ms(self) -> list[float]:
        """Of every answer in the sessions that went on to their end."""
        return [
            1e3 * turn.first_audio_s
            for session in self.sessions
            if session.end == "finished"
            for turn in session.turns
            if turn.first_audio_s is not None
        ]

    @property
    def underruns(self) -> int:
        """In the sessions that went on to their end."""
        whole = [session for session in self.sessions if session.end == "finished"]
        return sum(turn.underruns for session in whole for turn in session.turns)


async def one_round(
    client: Client,
    questions: Sequence[Sequence[Spoken]],
    *,
    spread_s: float,
    kill: Callable[[], object] | None = None,
    kill_after_s: float = 0.0,
    seed: int = 0,
) -> Round:
    """A conversation for each of these, begun within `spread_s`; kill: called in their midst."""

    async def later(done: Callable[[], object]) -> None:
        await asyncio.sleep(kill_after_s)
        done()

    drawn = random.Random(seed)
    waits = [drawn.uniform(0.0, spread_s) for _ in questions]
    talks = [client.converse(asked, wait) for asked, wait in zip(questions, waits, strict=True)]
    killing = [] if kill is None else [later(kill)]
    sessions, *_ = await asyncio.gather(asyncio.gather(*talks), *killing)
    return Round(sessions=sessions, killed=kill is not None, load=os.getloadavg()[0])


def replicas_of(server: int) -> list[int]:
    """Processes of the replicas of this server process (Linux alone has the list)."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    # Python's own helper is a child, too.
    return [
        int(child)
        for child in children
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
    ]


def await_places(read: Callable[..., list[float]], places: int) -> None:
    """Until the server has so many places again, which is when all replicas serve."""
    until = time.monotonic() + READY_S
    while read(PLACES)[0] < places:
        if time.monotonic() > until:
            raise UserError(f"a replica that was killed did not serve again within {READY_S:g} s")
        time.sleep(0.2)


def summary(rounds: Sequence[Round]) -> list[list[str]]:
    """The heading, and a line for the rounds without and with a replica killed."""
    cells = [
        ["replica killed", "sessions", "told by 1012", "lost", "answers of the others",
         "first audio p50, ms", "p95", "underruns", "load"]
    ]  # fmt: skip
    for killed in (False, True):
        chosen = [found for found in rounds if found.killed == killed]
        ms = [each for found in chosen for each in found.first_audio_ms]
        p50, p95 = (f"{value:.0f}" for value in (statistics.median(ms), p95_of(ms)))
        counts = (
            sum(len(found.sessions) for found in chosen),
            sum(found.told for found in chosen),
            sum(len(found.lost) for found in chosen),
            len(ms),
        )
        underruns = sum(found.underruns for found in chosen)
        loads = f"{chosen[0].load:.1f} to {chosen[-1].load:.1f}"
        cells.append(
            ["yes" if killed else "no", *map(str, counts), p50, p95, str(underruns), loads]
        )
    return cells


def p95_of(values: Sequence[float]) -> float:
    """The 95th percentile. Raises UserError where nothing was measured."""
    if len(values) < 2:
        raise UserError(f"{len(values)} answers: too few to measure; ask for more --turns")
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def failover_command(
    sessions: Annotated[int, typer.Option(min=2, help="Clients at a time.")] = 8,
    turns: Annotated[int, typer.Option(min=1, help="Questions of each client.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Times with and without.")] = 3,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="NAME_OR_DIR_OR_HUB_ID", help="Default: nano.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each replica.")] = None,
    kill_after: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="After the first client has begun.")
    ] = 6.0,
) -> None:
    """Two replicas, one of which is killed while clients talk to both; exit code 1 if a session of
    the other is lost, or one ends without being told why.

    Rounds without and with the killing take turns. After each killing the replica that comes anew
    is waited for. Run it on an otherwise idle machine.
    """
    need("websockets", "serve", "the bench of a killed replica")
    from tqdm import tqdm

    from omni.audio import load_audio
    from omni.loading import NANO
    from serve.bench.load import Client, Playout, Spoken, own_process
    from serve.bench.metrics_page import metrics_at

    if not Path("/proc").is_dir():
        raise UserError("/proc: not there; this bench finds the replicas' processes in Linux alone")
    options = ["--replicas", str(REPLICAS), "--max-sessions", str(sessions)]
    options += [] if checkpoint is None else ["--checkpoint", checkpoint]
    options += [] if threads is None else ["--threads", str(threads)]
    files = sorted((NANO.parent / "questions").glob("*.wav"))
    spoken = [Spoken.of(load_audio(file), manual=False) for file in files]
    asked = [
        [spoken[(first + turn) % len(spoken)] for turn in range(turns)] for first in range(sessions)
    ]
    found: list[Round] = []
    with own_process(options) as (url, server), tqdm(total=2 * rounds, unit="round") as bar:
        client = Client(
            url=url, api_key=None, manual=False,
            playout=lambda: Playout(0.06, 0.02, random.Random(0)),
        )  # fmt: skip
        for number in range(rounds):
            victim = replicas_of(server)[number % REPLICAS]
            for kill in (None, lambda victim=victim: os.kill(victim, signal.SIGKILL)):
                found.append(
                    asyncio.run(
                        one_round(
                            client, asked, spread_s=1.0, kill=kill, kill_after_s=kill_after,
                            seed=number,
                        )
                    )
                )  # fmt: skip
                bar.update()
            await_places(metrics_at(url), REPLICAS * sessions)
    cells = summary(found)
    print_table(f"{REPLICAS} replicas, {sessions} clients, {turns} turns each", cells)
    before, after = (
        p95_of([ms for r in found if r.killed == killed for ms in r.first_audio_ms])
        for killed in (False, True)
    )
    typer.echo(f"95th percentile of the others with a replica killed: {after / before - 1:+.0%}")
    lost = [why for each in found for why in each.lost]
    for why in lost:
        typer.echo(f"lost: {why}")
    if lost or not sum(each.told for each in found):
        raise typer.Exit(LOST)
