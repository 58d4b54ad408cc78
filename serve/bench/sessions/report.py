"""What was found, as plain values and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from serve.bench.latency import Machine


@dataclass(frozen=True, kw_only=True)
class Row:
    """So many sessions with one kind of work.

    tokens_per_second: of all of them together, medians: "one" session alone, "by_turns" each in
    a forward of its own, "together" all in one forward. llm_forwards: of one run each.
    """

    work: str
    sessions: int
    tokens_per_second: Mapping[str, float]
    llm_forwards: Mapping[str, int]

    @property
    def times_one(self) -> float:
        """Together, in sessions that are alone."""
        return self.tokens_per_second["together"] / self.tokens_per_second["one"]

    @property
    def times_by_turns(self) -> float:
        """Together over by turns."""
        return self.tokens_per_second["together"] / self.tokens_per_second["by_turns"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that one run found. unlike: of `compared` replies so many say, together with others,
    something else than by turns; one_by_one: why they were not stepped together, None if so."""

    size: str
    parameters: Mapping[str, int]  # by part
    tokens: int
    repeats: int
    machine: Machine
    compared: int
    unlike: int
    one_by_one: str | None
    rows: Sequence[Row]

    def as_json(self) -> dict[str, Any]:
        """Plain values, ratios among them."""
        values = asdict(self)
        for row, plain in zip(self.rows, values["rows"], strict=True):
            plain |= {"times_one": row.times_one, "times_by_turns": row.times_by_turns}
        return values

    def cells(self) -> list[list[str]]:
        """The heading, and a line per row."""
        ways = [*self.rows[0].tokens_per_second]
        lines = [["work", "sessions", *ways, "times one", "times by turns", "LLM forwards"]]
        for row in self.rows:
            rates = [f"{rate:.1f}" for rate in row.tokens_per_second.values()]
            ratios = [f"{row.times_one:.2f}", f"{row.times_by_turns:.2f}"]
            forwards = f"{row.llm_forwards['together']} of {row.llm_forwards['by_turns']}"
            lines.append([row.work, str(row.sessions), *rates, *ratios, forwards])
        return lines
