"""What was found, as plain values and as tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from serve.bench.latency.floor import Speed

SHOWN_FLOOR_MS = 0.05  # below, the floor is printed as 0.0, and a multiple of it says nothing
REFERENCE = "reference"  # the name of the way that all others are compared with


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case: what was asked, and the median ms of every way.

    pause_ms: of ways that worked in the pause after the question, for how long; not in `ms`.
    """

    case: Mapping[str, str]
    ms: Mapping[str, float]
    pause_ms: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def times_as_fast(self) -> dict[str, float]:
        """The reference's ms over every other way's; empty without a reference."""
        if REFERENCE not in self.ms:
            return {}
        reference = self.ms[REFERENCE]
        return {way: reference / ms for way, ms in self.ms.items() if way != REFERENCE}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cases of one kind."""

    title: str
    rows: Sequence[Row]

    def cells(self) -> list[list[str]]:
        """The heading and the rows: ms, and in brackets how many times as fast as the reference."""
        first = self.rows[0]
        lines = [[*first.case, *first.ms, *(f"{way}, pause" for way in first.pause_ms)]]
        for row in self.rows:
            times = row.times_as_fast
            line = [*row.case.values()]
            for way, ms in row.ms.items():
                line.append(_number(ms) + (f" ({times[way]:.2f})" if way in times else ""))
            lines.append(line + [_number(ms) for ms in row.pause_ms.values()])
        return lines


def _number(ms: float) -> str:
    return f"{ms:.0f}" if ms >= 10 else f"{ms:.1f}"


@dataclass(frozen=True, kw_only=True)
class Span:
    """One call of a stage, in ms after the question's last sample."""

    stage: str
    start_ms: float
    ms: float
    floor_ms: float


@dataclass(frozen=True, kw_only=True)
class Waterfall:
    """First audio of one way, medians. What no span covers is the work between the stages."""

    way: str
    first_audio_ms: float
    spans: tuple[Span, ...]

    def totals(self) -> dict[str, tuple[float, float]]:
        """Stage -> ms and floor of all its calls, in the order of their first."""
        found: dict[str, tuple[float, float]] = {}
        for span in self.spans:
            ms, floor = found.get(span.stage, (0.0, 0.0))
            found[span.stage] = (ms + span.ms, floor + span.floor_ms)
        return found


def stage_cells(waterfalls: Sequence[Waterfall]) -> list[list[str]]:
    """The heading, and a line per stage of each way: ms, floor, how many floors it takes."""
    lines = [["way", "stage", "ms", "floor ms", "floors"]]
    for fall in waterfalls:
        for stage, (ms, floor) in fall.totals().items():
            times = f"{ms / floor:.1f}" if floor >= SHOWN_FLOOR_MS else ""
            lines.append([fall.way, stage, _number(ms), _number(floor), times])
        floor = sum(floor for _, floor in fall.totals().values())
        ms = fall.first_audio_ms
        lines.append([fall.way, "first audio", _number(ms), _number(floor), f"{ms / floor:.1f}"])
    return lines


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many answers were held against the plain algorithm's. ties: so many of them part from it
    where its two best scores are all but equal."""

    answers: int
    ties: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it was measured; load averages of one minute, before and after."""

    cores: int
    torch_threads: int
    device: str
    dtype: str
    load_before: float
    load_after: float

    def __str__(self) -> str:
        return (
            f"{self.cores} cores, {self.torch_threads} threads, {self.device}, {self.dtype}, load "
            f"{self.load_before:.1f} to {self.load_after:.1f}"
        )

    @classmethod
    def here(cls, device: torch.device, dtype: torch.dtype, load_before: float) -> Machine:
        """This one, now; load_before: its load average when measuring began."""
        return cls(
            cores=len(os.sched_getaffinity(0)),
            torch_threads=torch.get_num_threads(),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            dtype=str(dtype).removeprefix("torch."),
            load_before=load_before,
            load_after=os.getloadavg()[0],
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that one run found. compiled: our steps were, not the reference's."""

    size: str
    compiled: bool
    parameters: Mapping[str, int]  # by part
    repeats: int
    block_frames: int
    machine: Machine
    agreement: Agreement
    tables: Mapping[str, Table]
    speed: Speed
    waterfalls: Sequence[Waterfall]

    def as_json(self) -> dict[str, Any]:
        """Plain values, ratios among them."""
        values = asdict(self)
        for name, table in self.tables.items():
            for row, plain in zip(table.rows, values["tables"][name]["rows"], strict=True):
                plain["times_as_fast"] = row.times_as_fast
        return values
