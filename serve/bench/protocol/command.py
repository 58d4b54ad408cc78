"""`omni-serve bench protocol`: what the protocol costs where no model is behind it."""

# Heavy imports stand inside the function: `omni-serve --help` must not wait for torch.
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from omni.files import UserError, need
from serve.bench.table import print_table

if TYPE_CHECKING:
    from serve.bench.protocol.report import ProtocolReport

INCOMPLETE = 1  # exit code; 2 is bad input
SERVER = "serve.bench.protocol.serving"


def protocol_command(
    sessions: Annotated[
        str, typer.Option(metavar="N,N,...", help="How many clients at a time.")
    ] = "25,50,100",
    seconds: Annotated[
        float, typer.Option(min=1, help="That each number of clients is measured for.")
    ] = 20.0,
    every: Annotated[
        float, typer.Option(min=1, help="Seconds from a client's question to its next.")
    ] = 4.0,
    answer: Annotated[float, typer.Option(min=0.2, help="Seconds of sound in an answer.")] = 2.0,
    voice_activity: Annotated[
        Literal["on", "off", "both"],
        typer.Option(help="Whether the server listens for a voice in all sound."),
    ] = "both",
    seed: Annotated[int, typer.Option(help="Of when clients begin.")] = 0,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the report goes as JSON.")
    ] = None,
) -> None:
    """What many sessions cost before any model works: a real server whose answers are prepared.

    Every client sends 20 ms of sound every 20 ms and asks in turn. Server and clients are a process
    each, on this machine. Exit code 1 if an answer did not come. Run it on an otherwise idle
    machine: the load average stands in the report.
    """
    need("websockets", "serve", "the bench of the protocol")
    from tqdm import tqdm

    from omni.audio import SAMPLE_RATE, load_audio
    from omni.files import check_file, write_json
    from omni.loading import NANO
    from serve.bench.load import own_server
    from serve.bench.metrics_page import metrics_at
    from serve.bench.protocol.report import ProtocolReport
    from serve.bench.protocol.running import Protocol
    from serve.bench.sessions import counts_of

    counts = counts_of(sessions)
    if json is not None:
        check_file(json)
    questions = [load_audio(file) for file in sorted((NANO.parent / "questions").glob("*.wav"))]
    longest = max(map(len, questions)) / SAMPLE_RATE
    if every <= longest:
        raise UserError(f"--every {every:g}: must be above {longest:.1f}, the longest question's")
    hearing = {"on": [True], "off": [False], "both": [False, True]}[voice_activity]
    # Twice as many places: who left may be leaving still.
    options = [str(2 * max(counts)), str(answer)]
    with (
        own_server(options, [SERVER]) as address,
        tqdm(total=len(counts) * len(hearing), unit="row") as bar,
    ):
        protocol = Protocol(
            url=address, questions=questions, seconds=seconds, every_s=every,
            read=metrics_at(address), seed=seed, done=bar.update,
        )  # fmt: skip
        rows = protocol.measure(counts, hearing)
    report = ProtocolReport(
        seconds=seconds, every_s=every, answer_s=answer, cores=len(os.sched_getaffinity(0)),
        rows=rows,
    )  # fmt: skip
    if json is not None:
        write_json(json, report.as_json())
    _print(report)
    if any(row.failed for row in rows):
        raise typer.Exit(INCOMPLETE)


def _print(report: ProtocolReport) -> None:
    print_table("the protocol without a model", report.cells())
    for row in report.rows:
        for why in row.reasons:
            typer.echo(f"{row.sessions} sessions: {why}")
    typer.echo(
        f"{report.seconds:g} s each, a question every {report.every_s:g} s, answers of "
        f"{report.answer_s:g} s made beforehand; {report.cores} cores for server and clients"
    )
