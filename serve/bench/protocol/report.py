"""What was found, as plain values and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

HEADING = [
    "sessions", "voice activity", "asked", "first delta p50, ms", "p95", "p99",
    "append p50, ms", "p95", "p99", "server CPU", "per session", "sessions per core", "failed",
    "late p99, ms", "clients CPU", "load",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ProtocolRow:
    """So many clients at once. hears: whether a voice was listened for in their sound.

    asked: questions, of which `answered` had sound; failed: answers and probes that did not come
    right, for these reasons. first_delta_ms: from a question's end to its first sound; append_ms:
    until a frame was taken; late_ms: of our clients' own frames; all percentiles. server_cpu,
    clients_cpu: seconds of a core per second.
    """

    sessions: int
    hears: bool
    asked: int
    answered: int
    failed: int
    reasons: Sequence[str]
    first_delta_ms: Mapping[str, float]
    append_ms: Mapping[str, float]
    late_ms: Mapping[str, float]
    server_cpu: float
    clients_cpu: float
    load_before: float
    load_after: float

    @property
    def sessions_per_core(self) -> float:
        """How many would take all of one core at this cost each; that is no promise of latency."""
        return self.sessions / self.server_cpu if self.server_cpu else 0.0


@dataclass(frozen=True, kw_only=True)
class ProtocolReport:
    """All that one run found. cores: that server and clients share."""

    seconds: float
    every_s: float
    answer_s: float
    cores: int
    rows: Sequence[ProtocolRow]

    def as_json(self) -> dict[str, Any]:
        """Plain values, what is derived among them."""
        values = asdict(self)
        for row, plain in zip(self.rows, values["rows"], strict=True):
            plain["sessions_per_core"] = row.sessions_per_core
        return values

    def cells(self) -> list[list[str]]:
        """The heading, and a line per row."""
        return [HEADING, *map(_line, self.rows)]


def _line(row: ProtocolRow) -> list[str]:
    return [
        str(row.sessions), "on" if row.hears else "off", str(row.asked),
        *_shown(row.first_delta_ms), *_shown(row.append_ms),
        f"{row.server_cpu:.0%}", f"{row.server_cpu / row.sessions:.2%}",
        f"{row.sessions_per_core:.0f}", str(row.failed),
        f"{row.late_ms['p99']:.0f}" if row.late_ms else "-", f"{row.clients_cpu:.0%}",
        f"{row.load_before:.1f} to {row.load_after:.1f}",
    ]  # fmt: skip


def _shown(percentiles: Mapping[str, float]) -> list[str]:
    return [f"{value:.1f}" for value in percentiles.values()] or ["-"] * 3
