"""What a model card tells of the parts that were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def part_rows(rows: Mapping[str, tuple[str, str]], made: Mapping[str, Mapping[str, Any]]) -> str:
    """Lines of a markdown table: part, what it is, its own validation's number.

    rows: part -> what it is, and the name of the number; made: part -> its numbers. A part whose
    number was not measured has no line.
    """
    return "\n".join(
        f"| {name} | {what} | {metric.removeprefix('eval_').replace('_', ' ')} "
        f"{made[name][metric]:.3f} |"
        for name, (what, metric) in rows.items()
        if metric in made.get(name, {})
    )
