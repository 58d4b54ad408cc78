"""The whole benchmark on one model: build, measure, report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch

from serve.bench.latency import SIZES, Machine, build, clock_of, parameter_counts
from serve.bench.sessions.measuring import Bench, runs_of
from serve.bench.sessions.report import Report


def throughput(
    size: str,
    counts: Sequence[int],
    *,
    device: torch.device,
    dtype: torch.dtype,
    tokens: int,
    repeats: int,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Report:
    """Measure a model of that size with these numbers of sessions.

    progress: called with (runs so far, runs in all).
    """
    load_before = os.getloadavg()[0]
    subject = build(SIZES[size], device, dtype)
    finished = 0

    def done() -> None:
        nonlocal finished
        finished += 1
        progress(finished, runs_of(counts, repeats))

    bench = Bench(clock_of(device), tokens, repeats, done)
    rows = bench.rows(subject, counts)
    return Report(
        size=size,
        parameters=parameter_counts(subject.model),
        tokens=tokens,
        repeats=repeats,
        machine=Machine.here(device, dtype, load_before),
        compared=bench.compared,
        unlike=bench.unlike,
        one_by_one=bench.one_by_one,
        rows=rows,
    )
