"""`omni-serve bench sessions`: how much many sessions say together."""

# Heavy imports stand inside the function: `omni-serve --help` must not wait for torch.
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from omni.commands import Device
from omni.files import UserError
from serve.bench.options import BenchDtype, RandomSize, Repeats, ReportFile, Threads
from serve.bench.table import print_table

if TYPE_CHECKING:
    from serve.bench.sessions.report import Report

TOKENS = 32


def sessions_command(
    size: RandomSize = "mid",
    sessions: Annotated[
        str, typer.Option(metavar="N,N,...", help="How many at a time.")
    ] = "1,2,4,8,16",
    device: Device = "auto",
    dtype: BenchDtype = None,
    threads: Threads = None,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens of each reply.")] = TOKENS,
    repeats: Repeats = 3,
    json: ReportFile = None,
) -> None:
    """Tokens per second of many sessions together, beside one session and beside taking turns.

    Measured for text alone, with units, and with sound, from each reply's second token on. Run it
    on an otherwise idle machine: the load average stands in the report.
    """
    from omni.files import check_file, write_json

    counts = counts_of(sessions)
    if json is not None:
        check_file(json)
    from serve.bench.latency import advancing, prepare
    from serve.bench.sessions.running import throughput

    place, kind = prepare(device, dtype, threads)
    with advancing("run") as progress:
        report = throughput(
            size, counts, device=place, dtype=kind, tokens=tokens,
            repeats=repeats, progress=progress,
        )  # fmt: skip
    if json is not None:
        write_json(json, report.as_json())
    _print(report)


def counts_of(text: str) -> list[int]:
    """ "1,2,4" -> [1, 2, 4]. Raises UserError for anything but whole numbers from 1 on."""
    counts = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if min(counts) < 1:
        raise UserError(f"--sessions {text}: must be whole numbers from 1 on, as in 1,4,16")
    return counts


def _print(report: Report) -> None:
    print_table("tokens per second of all sessions", report.cells())
    if report.one_by_one is not None:
        typer.echo(f"not together: {report.one_by_one}")
    typer.echo(
        f"{report.size}, {sum(report.parameters.values()) / 1e6:.0f} M parameters, "
        f"{report.tokens} tokens a reply, medians of {report.repeats}; of {report.compared} "
        f"replies {report.unlike} say something else together than by turns"
    )
    typer.echo(str(report.machine))
