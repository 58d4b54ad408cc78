"""What was found, as plain values and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serve.bench.load.client import Session

PERCENTILES = (50, 95, 99)
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The machine at one moment: load average of one minute; memory of the server in bytes, None
    where it does not tell."""

    load: float
    memory: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """So many clients at once.

    turns: that ended, `failed` of them without a whole answer. refused, dropped: sessions.
    first_audio_ms: percentiles over the turns that had sound, from a question's last sample.
    underruns: times that a listener's buffer ran dry, silent_ms: for how long in all. compared:
    answers beside those of a lone session, `unlike` of them in other words. late_ms: percentiles of
    how late our clients themselves spoke. reasons: why something failed, and how often.
    """

    sessions: int
    turns: int
    failed: int
    refused: int
    dropped: int
    first_audio_ms: Mapping[str, float]
    underruns: int
    silent_ms: float
    compared: int
    unlike: int
    late_ms: Mapping[str, float]
    reasons: Mapping[str, int]
    before: Watched
    after: Watched

    @classmethod
    def of(
        cls,
        sessions: Sequence[Session],
        alone: Sequence[Session],
        before: Watched,
        after: Watched,
    ) -> Row:
        """alone: of each session, the one that asked the same with nobody beside it."""
        turns = [turn for session in sessions for turn in session.turns]
        pairs = [
            (turn.text, other.text)
            for session, lone in zip(sessions, alone, strict=True)
            for turn, other in zip(session.turns, lone.turns, strict=False)
            if turn.failure is None and other.failure is None
        ]
        reasons: dict[str, int] = {}
        for why in [s.why for s in sessions if s.why] + [t.failure for t in turns if t.failure]:
            reasons[why] = reasons.get(why, 0) + 1
        return cls(
            sessions=len(sessions),
            turns=len(turns),
            failed=sum(turn.failure is not None for turn in turns),
            refused=sum(session.end == "refused" for session in sessions),
            dropped=sum(session.end == "dropped" for session in sessions),
            first_audio_ms=percentiles(
                [1e3 * turn.first_audio_s for turn in turns if turn.first_audio_s is not None]
            ),
            underruns=sum(turn.underruns for turn in turns),
            silent_ms=1e3 * sum(turn.silent_s for turn in turns),
            compared=len(pairs),
            unlike=sum(one != other for one, other in pairs),
            late_ms=percentiles([1e3 * turn.late_s for turn in turns]),
            reasons=reasons,
            before=before,
            after=after,
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that one run found. cores: of the machine of the clients."""

    url: str
    turns: int
    jitter_ms: float
    buffer_ms: float
    manual: bool
    seed: int
    cores: int
    rows: Sequence[Row]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def cells(self) -> list[list[str]]:
        """The heading, and a line per row."""
        shown = [f"p{percent}" for percent in PERCENTILES]
        lines = [
            ["sessions", "turns", *(f"first audio {name}, ms" for name in shown), "underruns",
             "silent ms", "failed", "refused", "dropped", "unlike", "late p99, ms", "memory MiB",
             "load"]
        ]  # fmt: skip
        for row in self.rows:
            first = [f"{row.first_audio_ms[p]:.0f}" if row.first_audio_ms else "-" for p in shown]
            counts = [row.failed, row.refused, row.dropped]
            late = f"{row.late_ms['p99']:.0f}" if row.late_ms else "-"
            lines.append(
                [str(row.sessions), str(row.turns), *first, str(row.underruns),
                 f"{row.silent_ms:.0f}", *map(str, counts), f"{row.unlike} of {row.compared}", late,
                 f"{_mib(row.before)} to {_mib(row.after)}",
                 f"{row.before.load:.1f} to {row.after.load:.1f}"]
            )  # fmt: skip
        return lines


def _mib(watched: Watched) -> str:
    return "-" if watched.memory is None else f"{watched.memory / MIB:.0f}"


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """ "p50" and so on; empty if nothing was measured."""
    if not values:
        return {}
    return {f"p{percent}": float(np.percentile(values, percent)) for percent in PERCENTILES}
