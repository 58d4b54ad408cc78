"""`omni-serve bench load`: many clients who speak and listen in real time."""

# Heavy imports stand inside the function: `omni-serve --help` must not wait for torch.
from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni.files import UserError, need
from serve.bench.table import print_table

if TYPE_CHECKING:
    from serve.bench.load.report import Report

INCOMPLETE = 1  # exit code; 2 is bad input


def load_command(
    questions: Annotated[
        list[Path] | None,
        typer.Argument(metavar="QUESTION.wav", help="Default: those that come with omni."),
    ] = None,
    sessions: Annotated[
        str, typer.Option(metavar="N,N,...", help="How many clients at a time.")
    ] = "1,2,4,8",
    url: Annotated[
        str | None,
        typer.Option(
            help="Of a running server, as ws://127.0.0.1:8000/v1/realtime. Default: one of its "
            "own, in another process."
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_DIR_OR_HUB_ID", help="Of the server of its own; default: nano."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the server of its own.")
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="Questions of each client.")] = 3,
    chunk_units: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N|N,N,..|all|auto",
            help="Units of speech per chunk, as clients ask for them; may be repeated, and takes "
            "turns then. Default: the server's own.",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Times that each number of clients is measured.")
    ] = 1,
    jitter_ms: Annotated[
        float, typer.Option(min=0, help="By up to so much each piece of sound comes late.")
    ] = 20.0,
    buffer_ms: Annotated[
        float, typer.Option(min=0, help="Listeners begin to play so long after the first sound.")
    ] = 60.0,
    manual: Annotated[
        bool,
        typer.Option("--manual", help="Clients tell where a turn ends; else the server hears it."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the jitter and of when clients begin.")] = 0,
    api_key: Annotated[str | None, typer.Option(envvar="OMNI_API_KEY")] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the report goes as JSON.")
    ] = None,
) -> None:
    """First audio, underruns and losses of so many clients at once; exit code 1 if any was lost.

    Each client speaks recorded questions in frames of 20 ms and listens to the answers to their
    end; every conversation is also held alone before, for its words. Run it on an otherwise idle
    machine: the load average stands in the report.
    """
    need("websockets", "serve", "the bench of many clients")
    from omni.files import check_file, write_json
    from serve.bench.sessions import counts_of

    counts = counts_of(sessions)
    if json is not None:
        check_file(json)
    if url is not None and (checkpoint is not None or threads is not None):
        raise UserError("--url: that server has its own --checkpoint and --threads; leave them out")
    from tqdm import tqdm

    from omni.audio import load_audio
    from omni.loading import NANO
    from omni.vocoder import parse_schedule
    from serve.bench.load.own_server import own_server
    from serve.bench.load.running import Load
    from serve.bench.metrics_page import metrics_at

    schedules = [str(parse_schedule(text)) for text in chunk_units or []] or [None]
    files = questions or sorted((NANO.parent / "questions").glob("*.wav"))
    recordings = [load_audio(file) for file in files]
    options = ["--max-sessions", str(max(counts) + 1)]  # one more: who left may be leaving still
    options += [] if checkpoint is None else ["--checkpoint", checkpoint]
    options += [] if threads is None else ["--threads", str(threads)]
    with (
        own_server(options) if url is None else nullcontext(url) as address,
        tqdm(unit="conversation") as bar,
    ):
        key = None if url is None else api_key
        load = Load(
            url=address, questions=recordings, turns=turns, jitter_ms=jitter_ms,
            buffer_ms=buffer_ms, manual=manual, seed=seed, api_key=key,
            schedules=schedules, rounds=rounds,
            read=metrics_at(address) if url is None else None, done=bar.update,
        )  # fmt: skip
        runs = rounds * len(schedules)
        bar.total = load.conversations(max(counts)) + runs * sum(counts)
        report = load.measure(counts)
    if json is not None:
        write_json(json, report.as_json())
    _print(report)
    if any(row.failed or row.refused or row.dropped for row in report.rows):
        raise typer.Exit(INCOMPLETE)


def _print(report: Report) -> None:
    print_table("clients at once", report.cells())
    for row in report.rows:
        for why, count in row.reasons.items():
            typer.echo(f"{row.sessions} sessions: {count} x {why}")
    typer.echo(
        f"{report.url}: {report.turns} turns each, ended by "
        f"{'the client' if report.manual else 'the server'}, {report.rounds} rounds; jitter "
        f"up to {report.jitter_ms:g} ms, buffer {report.buffer_ms:g} ms, seed {report.seed}; "
        f"{report.cores} cores"
    )
