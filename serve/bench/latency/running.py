"""The whole benchmark on one model: build, measure, look into the stages, report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch

from omni.vocoder import parse_schedule
from serve.bench.latency.answer import Asked, Clock, clock_of
from serve.bench.latency.asking import Live, Ours
from serve.bench.latency.floor import Speed, probe
from serve.bench.latency.measuring import (
    CHUNK_UNITS,
    GROWING_S,
    QUESTIONS_S,
    SOON,
    Bench,
    Ways,
    ways_of,
)
from serve.bench.latency.preparing import compile_ours
from serve.bench.latency.question import speech
from serve.bench.latency.report import Machine, Report, Table, Waterfall
from serve.bench.latency.sizes import SIZES, Subject, build, parameter_counts, variant
from serve.bench.latency.stages import waterfall


def latency(
    size: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    compiled: bool,
    repeats: int,
    block_frames: int,
    replies: bool = True,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Report:
    """Measure a model of that size. compiled: our steps are; the reference is not. replies: whole
    ones are timed as well.

    progress: called with (answers so far, answers in all).

    Raises RuntimeError if the published algorithm and ours say different things.
    """
    load_before = os.getloadavg()[0]
    clock, sizes = clock_of(device), SIZES[size]
    subject = build(sizes, device, dtype)
    if compiled:
        compile_ours(subject)
    ways = ways_of(subject, clock, block_frames=block_frames)
    lengths = sizes.long_replies if replies else ()
    total, answered = _answers_in(ways, lengths, repeats), 0

    def done() -> None:
        nonlocal answered
        answered += 1
        progress(answered, total)

    bench = Bench(ways, sizes.reply_tokens, repeats, done)
    bench.warm_up()
    speed = probe(device, dtype, clock)
    waterfalls = _waterfalls(subject, bench, clock, speed, block_frames)
    tables = _tables(bench, lengths, sizes.timed_tokens)
    return Report(
        size=size,
        compiled=compiled,
        parameters=parameter_counts(subject.model),
        repeats=repeats,
        block_frames=block_frames,
        machine=Machine.here(device, dtype, load_before),
        agreement=bench.agreement,
        tables=tables,
        speed=speed,
        waterfalls=waterfalls,
    )


def _answers_in(ways: Ways, lengths: Sequence[int], repeats: int) -> int:
    first = len(QUESTIONS_S) * len(CHUNK_UNITS) + len(GROWING_S)
    return len(ways) + repeats * (len(ways) * first + 2 * len(lengths))


def _tables(bench: Bench, lengths: Sequence[int], timed_tokens: Sequence[int]) -> dict[str, Table]:
    """lengths: of whole replies, in tokens; none leaves out their tables."""
    first = bench.first_audio(QUESTIONS_S, CHUNK_UNITS)
    tables = {"first_audio": Table(title="first audio", rows=first)}
    if lengths:
        whole, each = bench.replies(lengths, timed_tokens)
        tables["replies"] = Table(title="text and units of a whole reply", rows=whole)
        tables["tokens"] = Table(title="one token of the longest of these", rows=each)
    growth = bench.first_audio(GROWING_S, [SOON])
    tables["growth"] = Table(title="first audio by the length of the question", rows=growth)
    return tables


def _waterfalls(
    subject: Subject, bench: Bench, clock: Clock, speed: Speed, block_frames: int
) -> list[Waterfall]:
    """Of the longer question and the smallest chunk, given whole and spoken."""
    asked = Asked(
        waveform=speech(QUESTIONS_S[-1]),
        schedule=parse_schedule(SOON),
        tokens=bench.reply_tokens,
        until_sound=True,
    )
    ways = {
        "true_length": Ours(subject, clock),
        "live_blocks": Live(variant(subject, block_frames=block_frames), clock),
    }
    return [
        waterfall(name, ours, asked, clock=clock, speed=speed, repeats=bench.repeats)
        for name, ours in ways.items()
    ]
