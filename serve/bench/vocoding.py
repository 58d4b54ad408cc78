"""`omni-serve bench vocoder`: what a reply costs in chunks, beside the same reply as a whole.

Every frame is computed once, so chunks should cost what the whole costs: by count of multiply-adds
(which no other process changes) and, on an idle machine, by time.
"""

# Heavy imports stand inside the functions: `omni-serve --help` must not wait for torch.
from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni.files import UserError, check_file

if TYPE_CHECKING:
    import numpy as np

    from omni.vocoder import ChunkSchedule, StreamContext, StreamingVocoder, Vocoder

CHUNK_UNITS = ["10", "20", "40", "auto"]
WHOLE = "all"
UNITS_PER_STEP = 10  # about what a token of text brings
PUBLISHED = "published"


@dataclass(frozen=True, kw_only=True)
class Vocoded:
    """One schedule. seconds: the median; time_ratio, work_ratio: over the whole's time (the median
    of the ratios, round by round) and multiply-adds; real_time_factor: time over duration;
    seam_error, border_error: see `omni.metrics.seam_error`."""

    schedule: str
    chunks: int
    seconds: float
    time_ratio: float
    multiply_adds: int
    work_ratio: float
    real_time_factor: float
    seam_error: float
    border_error: float


@dataclass(frozen=True, kw_only=True)
class VocoderReport:
    """The whole comes first. Load averages of one minute, before and after."""

    rows: tuple[Vocoded, ...]
    vocoder: str
    units: int
    audio_seconds: float
    repeats: int
    cores: int
    torch_threads: int
    load_before: float
    load_after: float

    def as_json(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)


def vocoder_report(
    vocoder: Vocoder,
    schedules: Sequence[ChunkSchedule],
    context: StreamContext,
    *,
    name: str,
    units: int,
    repeats: int,
    progress: Callable[[], object] = lambda: None,
) -> VocoderReport:
    """Vocode one reply of random units whole and under each schedule, in turn, `repeats` times.

    The schedules take turns, so that drifting load hits them all alike.
    """
    import numpy as np
    import torch

    from omni.audio import SAMPLE_RATE
    from omni.metrics import seam_error
    from omni.vocoder import StreamingVocoder, Whole
    from serve.bench.latency import flop_counter

    load_before = os.getloadavg()[0]
    reply = _random_units(vocoder.num_units, units)
    streams = [StreamingVocoder(vocoder, each, context) for each in (Whole(), *schedules)]
    work: list[int] = []
    for stream in streams:  # which warms up as well
        with flop_counter() as counted:
            _vocode(stream, reply)
        work.append(counted.get_total_flops() // 2)
    seconds: list[list[float]] = [[] for _ in streams]
    heard: list[list[np.ndarray]] = [[] for _ in streams]
    for _ in range(repeats):
        for place, stream in enumerate(streams):
            started = time.perf_counter()
            heard[place] = _vocode(stream, reply)
            seconds[place].append(time.perf_counter() - started)
            progress()
    whole = np.concatenate(heard[0])
    audio_seconds = len(whole) / SAMPLE_RATE
    rows: list[Vocoded] = []
    for place, stream in enumerate(streams):
        ratios = [mine / all_ for mine, all_ in zip(seconds[place], seconds[0], strict=True)]
        seams = seam_error(whole, heard[place])
        median = statistics.median(seconds[place])
        rows.append(
            Vocoded(
                schedule=str(stream.schedule),
                chunks=len(heard[place]),
                seconds=median,
                time_ratio=statistics.median(ratios),
                multiply_adds=work[place],
                work_ratio=work[place] / work[0],
                real_time_factor=median / audio_seconds,
                seam_error=seams.overall,
                border_error=seams.at_borders,
            )
        )
    return VocoderReport(
        rows=tuple(rows),
        vocoder=name,
        units=units,
        audio_seconds=audio_seconds,
        repeats=repeats,
        cores=len(os.sched_getaffinity(0)),
        torch_threads=torch.get_num_threads(),
        load_before=load_before,
        load_after=os.getloadavg()[0],
    )


def _random_units(num_units: int, count: int) -> list[int]:
    """[count] units, the same at every call, no two neighbours alike, as merged ones are."""
    import numpy as np

    steps = np.random.default_rng(0).integers(1, num_units, count)
    return (np.cumsum(steps) % num_units).tolist()


def _vocode(stream: StreamingVocoder, units: Sequence[int]) -> list[np.ndarray]:
    """The chunks of a reply whose units come a few at a time."""
    state, chunks = stream.initial_state(), []
    for place in range(0, len(units), UNITS_PER_STEP):
        made, state = stream.step(units[place : place + UNITS_PER_STEP], state)
        chunks += made
    return [chunk.waveform for chunk in [*chunks, *stream.finish(state)]]


def vocoder_command(
    vocoder: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR",
            help="A vocoder's folder, or 'published': random weights of the published unit "
            "HiFi-GAN's size. Default: the nano's.",
        ),
    ] = None,
    chunk_units: Annotated[
        list[str],
        typer.Option(
            metavar="N|N,N,..|auto", help="Units of speech per chunk to try; may be repeated."
        ),
    ] = CHUNK_UNITS,
    right_context_frames: Annotated[
        int | None,
        typer.Option(min=0, help="20 ms frames that every chunk waits for. Default: as sessions."),
    ] = None,
    units: Annotated[int, typer.Option(min=1, help="Merged units of the reply.")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="Times that each is measured.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.json", help="Also as JSON.")
    ] = None,
) -> None:
    """Chunks against the whole reply: multiply-adds, time, and how well chunks join.

    Times are worth something on an otherwise idle machine: the load average is printed.
    """
    if output is not None:
        check_file(output)
    import torch
    from tqdm import tqdm

    from omni.files import write_json
    from omni.loading import NANO
    from omni.vocoder import HifiGanConfig, StreamContext, UnitHifiGan, load_vocoder, parse_schedule

    if threads is not None:
        torch.set_num_threads(threads)
    schedules = [parse_schedule(text) for text in chunk_units if text != WHOLE]
    if not schedules:
        raise UserError(f"chunk_units={chunk_units}: the whole is measured anyway; name another")
    if vocoder == PUBLISHED:
        torch.manual_seed(0)
        voice: Vocoder = UnitHifiGan(HifiGanConfig()).eval()
    else:
        voice = load_vocoder(vocoder or NANO / "vocoder")
    with tqdm(total=repeats * (1 + len(schedules)), unit="reply") as bar:
        found = vocoder_report(
            voice,
            schedules,
            StreamContext.chosen(voice, right_context_frames),
            name=vocoder or "nano",
            units=units,
            repeats=repeats,
            progress=bar.update,
        )
    if output is not None:
        write_json(output, found.as_json())
    _print(found)


def _print(found: VocoderReport) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for title in (
        "units per\nchunk", "chunks", "work\nx whole", "time\nx whole", "ms",
        "real-time\nfactor", "seam\nerror", "at\nborders",
    ):  # fmt: skip
        table.add_column(title, justify="right")
    for row in found.rows:
        table.add_row(
            row.schedule,
            str(row.chunks),
            f"{row.work_ratio:.2f}",
            f"{row.time_ratio:.2f}",
            f"{1e3 * row.seconds:.0f}",
            f"{row.real_time_factor:.3f}",
            f"{row.seam_error:.1e}",
            f"{row.border_error:.1e}",
        )
    Console().print(table)
    typer.echo(
        f"{found.vocoder}: {found.units} units, {found.audio_seconds:.1f} s, median of "
        f"{found.repeats}, {found.cores} cores, {found.torch_threads} threads, load "
        f"{found.load_before:.1f} to {found.load_after:.1f}"
    )
