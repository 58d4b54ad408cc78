"""`omni-serve bench latency`: how soon an answer is heard, beside the published algorithm."""

# Heavy imports stand inside the function: `omni-serve --help` must not wait for torch.
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni.commands import Device
from serve.bench.options import BenchDtype, CompileOurs, RandomSize, Repeats, ReportFile, Threads
from serve.bench.table import print_table

if TYPE_CHECKING:
    from serve.bench.latency.report import Report

BLOCK_FRAMES = 10  # 200 ms


def latency_command(
    size: RandomSize = "mid",
    device: Device = "auto",
    dtype: BenchDtype = None,
    compiled: CompileOurs = False,
    threads: Threads = None,
    repeats: Repeats = 3,
    block_frames: Annotated[
        int, typer.Option(min=1, help="20 ms frames of a block of the encoder in blocks.")
    ] = BLOCK_FRAMES,
    replies: Annotated[
        bool,
        typer.Option(
            help="Whole replies as text and units too: most of the time, by the reference."
        ),
    ] = True,
    json: ReportFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where a picture of our first audio beside its floor goes (.png, .svg).",
        ),
    ] = None,
) -> None:
    """First audio, whole replies and single tokens beside the published algorithm, on the same
    random weights. Text and units of both must be equal.

    Run it on an otherwise idle machine: the load average stands in the report.
    """
    from omni.files import check_file, write_json
    from serve.bench.latency.drawing import check_picture, draw

    if json is not None:
        check_file(json)
    if plot is not None:
        check_picture(plot)
    from serve.bench.latency.preparing import advancing, prepare
    from serve.bench.latency.running import latency

    place, kind = prepare(device, dtype, threads)
    with advancing("answer") as progress:
        report = latency(
            size, device=place, dtype=kind, compiled=compiled, repeats=repeats,
            block_frames=block_frames, replies=replies, progress=progress,
        )  # fmt: skip
    if json is not None:
        write_json(json, report.as_json())
    if plot is not None:
        draw(report.waterfalls, plot)
    _print(report)


def _print(report: Report) -> None:
    from serve.bench.latency.report import stage_cells

    for table in report.tables.values():
        print_table(f"{table.title}, ms (times as fast as the reference)", table.cells())
    print_table("first audio by stages, beside their floor", stage_cells(report.waterfalls))
    agreement = report.agreement
    ties = f", {agreement.ties} of them part at a tie" if agreement.ties else ""
    typer.echo(
        f"{report.size}, {sum(report.parameters.values()) / 1e6:.0f} M parameters, medians of "
        f"{report.repeats}; text and units of {agreement.answers} answers are the plain "
        f"algorithm's{ties}"
    )
    typer.echo(
        f"floor: {report.speed.gb_per_s:.1f} GB/s, {report.speed.gflop_per_s:.0f} GFLOP/s, both "
        "measured here"
    )
    typer.echo(f"{report.machine}{', ours compiled' if report.compiled else ''}")
