"""What was found, as plain values and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from serve.bench.load.client import Session

PERCENTILES = (50, 95, 99)
MIB = 2**20
HEADING = [
    "underruns", "silent ms", "failed", "refused", "dropped", "unlike", "late p99, ms",
    "memory MiB", "load",
]  # fmt: skip
CHUNK_HEADING = ["chunks", "vocoder calls per s of sound", "real-time factor p50"]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The machine at one moment: load average of one minute; of the server, None where it does not
    tell: its memory in bytes, the chunks that it has made so far, the seconds of their sound."""

    load: float
    memory: float | None = None
    chunks: float | None = None
    sound_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """Conversations at the same time. alone: of each, the one that asked the same with nobody
    beside it."""

    sessions: Sequence[Session]
    alone: Sequence[Session]
    before: Watched
    after: Watched


@dataclass(frozen=True, kw_only=True)
class Row:
    """So many clients at once, once or in several runs.

    chunk_units: that they asked for; None: nothing. vocoder_calls_per_s: per second of the sound
    that was made; None where the server does not tell. real_time_factor: percentiles over the
    answers, of how long one took over how long it sounds; empty where chunks were not asked for.
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
    chunk_units: str | None = None
    vocoder_calls_per_s: float | None = None
    real_time_factor: Mapping[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def of(cls, runs: Sequence[Run], chunk_units: str | None = None) -> Row:
        """What these runs, with as many clients each, found together."""
        sessions = [session for run in runs for session in run.sessions]
        alone = [session for run in runs for session in run.alone]
        turns = [turn for session in sessions for turn in session.turns]
        pairs = [
            (turn.text, other.text)
            for session, lone in zip(sessions, alone, strict=True)
            # A session that ended early has fewer; `dropped` and `refused` tell of it.
            for turn, other in zip(session.turns, lone.turns, strict=False)
            if turn.failure is None and other.failure is None
        ]
        reasons: dict[str, int] = {}
        for why in [s.why for s in sessions if s.why] + [t.failure for t in turns if t.failure]:
            reasons[why] = reasons.get(why, 0) + 1
        return cls(
            sessions=len(runs[0].sessions),
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
            before=runs[0].before,
            after=runs[-1].after,
            chunk_units=chunk_units,
            vocoder_calls_per_s=_calls_per_s(runs),
            real_time_factor=percentiles(
                [turn.real_time_factor for turn in turns if turn.real_time_factor is not None]
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was found. rounds: runs of each row. cores: of the machine of the clients."""

    url: str
    turns: int
    jitter_ms: float
    buffer_ms: float
    manual: bool
    seed: int
    rounds: int
    cores: int
    rows: Sequence[Row]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def cells(self) -> list[list[str]]:
        """The heading, and a line per row."""
        shown = [f"p{percent}" for percent in PERCENTILES]
        by_chunks = any(row.chunk_units is not None for row in self.rows)
        lines = [
            ["sessions", *(CHUNK_HEADING if by_chunks else []), "turns",
             *(f"first audio {name}, ms" for name in shown), *HEADING]
        ]  # fmt: skip
        for row in self.rows:
            first = [f"{row.first_audio_ms[p]:.0f}" if row.first_audio_ms else "-" for p in shown]
            counts = [row.failed, row.refused, row.dropped]
            late = f"{row.late_ms['p99']:.0f}" if row.late_ms else "-"
            lines.append(
                [str(row.sessions), *(_chunk_cells(row) if by_chunks else []), str(row.turns),
                 *first, str(row.underruns), f"{row.silent_ms:.0f}", *map(str, counts),
                 f"{row.unlike} of {row.compared}", late,
                 f"{_mib(row.before)} to {_mib(row.after)}",
                 f"{row.before.load:.1f} to {row.after.load:.1f}"]
            )  # fmt: skip
        return lines


def _chunk_cells(row: Row) -> list[str]:
    calls, factor = row.vocoder_calls_per_s, row.real_time_factor
    return [
        row.chunk_units or "-",
        "-" if calls is None else f"{calls:.2f}",
        f"{factor['p50']:.2f}" if factor else "-",
    ]


def _calls_per_s(runs: Sequence[Run]) -> float | None:
    calls = sound_s = 0.0
    for run in runs:
        before, after = run.before, run.after
        if before.chunks is None or after.chunks is None:
            return None
        assert before.sound_s is not None and after.sound_s is not None
        calls += after.chunks - before.chunks
        sound_s += after.sound_s - before.sound_s
    return calls / sound_s if sound_s else None


def _mib(watched: Watched) -> str:
    return "-" if watched.memory is None else f"{watched.memory / MIB:.0f}"


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """ "p50" and so on; empty if nothing was measured."""
    if not values:
        return {}
    return {f"p{percent}": float(np.percentile(values, percent)) for percent in PERCENTILES}
