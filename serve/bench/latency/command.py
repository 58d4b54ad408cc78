"""`omni-serve bench latency`: how soon an answer is heard, beside the published algorithm."""

# Heavy imports stand inside the function: `omni-serve --help` must not wait for torch.
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from omni.commands import DTYPE_NAMES, Device

if TYPE_CHECKING:
    from serve.bench.latency.report import Report, Table

BLOCK_FRAMES = 10  # 200 ms


def latency_command(
    size: Annotated[
        Literal["tiny", "mid", "8b"],
        typer.Option(
            help="Random weights: tiny tries the command; mid is for two CPU cores; 8b, of the "
            "published sizes, for a GPU with 24 GB."
        ),
    ] = "mid",
    device: Device = "auto",
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"{DTYPE_NAMES}. Default: float32 on a CPU, else bfloat16."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: torch's own choice.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Times that each case is measured.")] = 3,
    block_frames: Annotated[
        int, typer.Option(min=1, help="20 ms frames of a block of the encoder in blocks.")
    ] = BLOCK_FRAMES,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the report goes as JSON.")
    ] = None,
) -> None:
    """First audio, whole replies and single tokens beside the published algorithm, on the same
    random weights. Text and units of both must be equal.

    Run it on an otherwise idle machine: the load average stands in the report.
    """
    from omni.files import check_file, write_json

    if json is not None:
        check_file(json)
    import torch
    from tqdm import tqdm

    from omni.commands import quieten
    from omni.devices import choose_device, choose_dtype
    from serve.bench.latency.answer import clock_of
    from serve.bench.latency.measuring import Bench, answers_in, tables, ways_of
    from serve.bench.latency.report import Machine, Report
    from serve.bench.latency.sizes import SIZES, build, parts_of

    quieten()
    place = choose_device(device)
    kind = choose_dtype(dtype or ("float32" if place.type == "cpu" else "bfloat16"), place)
    if threads is not None:
        torch.set_num_threads(threads)
    load_before = os.getloadavg()[0]
    sizes = SIZES[size]
    subject = build(sizes, place, kind)
    ways = ways_of(subject, clock_of(place), block_frames=block_frames)
    with tqdm(total=answers_in(ways, repeats, sizes.long_replies), unit="answer") as bar:
        bench = Bench(ways, sizes.reply_tokens, repeats, done=bar.update)
        bench.warm_up()
        found = tables(bench, long_replies=sizes.long_replies, places=sizes.timed_tokens)
    report = Report(
        size=size,
        parameters={
            name: sum(p.numel() for p in part.parameters())
            for name, part in parts_of(subject.model).items()
        },
        repeats=repeats,
        block_frames=block_frames,
        machine=Machine(
            cores=len(os.sched_getaffinity(0)),
            torch_threads=torch.get_num_threads(),
            device=torch.cuda.get_device_name(place) if place.type == "cuda" else str(place),
            dtype=str(kind).removeprefix("torch."),
            load_before=load_before,
            load_after=os.getloadavg()[0],
        ),
        agreement=bench.agreement,
        tables=found,
    )
    if json is not None:
        write_json(json, report.as_json())
    _print(report)


def _print(report: Report) -> None:
    from rich.console import Console

    console = Console()
    for table in report.tables.values():
        console.print(_drawn(table))
    machine, agreement = report.machine, report.agreement
    ties = f", {agreement.ties} of them part at a tie" if agreement.ties else ""
    typer.echo(
        f"{report.size}, {sum(report.parameters.values()) / 1e6:.0f} M parameters, medians of "
        f"{report.repeats}; text and units of {agreement.answers} answers are the plain "
        f"algorithm's{ties}"
    )
    typer.echo(
        f"{machine.cores} cores, {machine.torch_threads} threads, {machine.device}, "
        f"{machine.dtype}, load {machine.load_before:.1f} to {machine.load_after:.1f}"
    )


def _drawn(table: Table) -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Drawing

    heading, *rows = table.cells()
    drawing = Drawing(box=SIMPLE_HEAD, title=table.title, title_justify="left")
    for name in heading:
        drawing.add_column(name.replace("_", "\n"), justify="right")
    for row in rows:
        drawing.add_row(*row)
    return drawing
