"""Splits drawn by what is asked, so that no question stands on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from data_tools.journal import LeftOut
from data_tools.manifest import Record
from data_tools.steps import digest
from omni.errors import UserError


def asked(record: Record) -> str:
    """The user's words, letters and digits alone: equal for what is the same question."""
    words = " ".join(turn.text for turn in record.turns if turn.role == "user").casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in words).split())


@dataclass(frozen=True, kw_only=True)
class SplitStep:
    """shares: split -> share of the questions, by their hash; `rest` takes what remains.

    Only records of the split `rest` are dealt out, so that a test set that came along stays one.
    """

    shares: dict[str, float]
    rest: str = "train"
    seed: int = 0
    name: str = "split"
    batch_size: int = 1024
    workers: int | None = 1
    device: ClassVar[str] = "cpu"

    def __post_init__(self) -> None:
        total = sum(self.shares.values())
        if not all(share > 0 for share in self.shares.values()) or total >= 1:
            raise UserError(
                f"split shares {self.shares}: each above 0 and together below 1; lower them"
            )

    def settings(self) -> dict[str, Any]:
        return {"shares": list(self.shares.items()), "rest": self.rest, "seed": self.seed}

    def size(self, record: Record, root: Path) -> float:
        return 0.0

    def open(self, root: Path) -> SplitStep:
        return self

    def __call__(self, records: Sequence[Record]) -> list[Record | LeftOut]:
        return [replace(record, split=self.split_of(record)) for record in records]

    def split_of(self, record: Record) -> str:
        if record.split != self.rest:
            return record.split
        # One that has a recording and no words is known by its id.
        place = int(digest(self.seed, asked(record) or record.id, length=12), 16) / 16**12  # 0 to 1
        for split, share in self.shares.items():
            if place < share:
                return split
            place -= share
        return self.rest

    def close(self) -> None:
        pass
