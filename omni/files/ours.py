"""Which checkpoints come with the package, by name, and where they lie."""

from __future__ import annotations

from pathlib import Path

# Each in a folder beside the rooms, with questions/ to ask it.
SHIPPED = {name: Path(__file__).parents[1] / name / "checkpoint" for name in ("nano", "mini")}
