"""Splits drawn by what is asked, so that no question stands on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_tools.manifest import Record, RecordTurn
from data_tools.steps import LeftOut, digest
from omni.files import UserError


def asked(turns: Sequence[RecordTurn]) -> str:
    """The user's words in them, letters and digits alone: equal for what is the same question."""
    words = " ".join(turn.text for turn in turns if turn.role == "user").casefold()
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

    def __post_init__(self) -> None:
        total = sum(self.shares.values())
        if not all(share > 0 for share in self.shares.values()) or total >= 1:
            raise UserError(
                f"split shares {self.shares}: each above 0 and together below 1; lower them"
            )

    @property
    def device(self) -> str:
        """The CPU: a hash is all there is to compute."""
        return "cpu"

    def settings(self) -> dict[str, Any]:
        """Shares in their order, rest and seed."""
        return {"shares": list(self.shares.items()), "rest": self.rest, "seed": self.seed}

    def size(self, record: Record, root: Path) -> float:
        """All alike."""
        return 0.0

    def open(self, root: Path) -> SplitStep:
        """The step itself: it holds nothing."""
        return self

    def __call__(self, records: Sequence[Record]) -> list[Record | LeftOut]:
        """The records with their splits; none is left out."""
        return [replace(record, split=self.split_of(record)) for record in records]

    def split_of(self, record: Record) -> str:
        """The split that the record belongs to; its own, unless that is `rest`."""
        if record.split != self.rest:
            return record.split
        place = self.place(record)
        for split, share in self.shares.items():
            if place < share:
                return split
            place -= share
        return self.rest

    def place(self, record: Record) -> float:
        """From 0 to 1, by seed and question."""
        return int(digest(self.seed, question_of(record), length=12), 16) / 16**12

    def close(self) -> None:
        """Holds nothing."""
        pass


def question_of(record: Record) -> str:
    """What may stand on one side only; a record that has a recording and no words is its id.

    Of a dialogue its first question: training also learns to answer what a dialogue begins with.
    """
    return asked(record.turns[:1]) or record.id


def hold_out(records: Sequence[Record], step: SplitStep) -> list[Record]:
    """Deals the records out by `step`; its splits and its rest get at least one question each.

    Of few questions a share by hash may come to none: then the largest of the others gives its
    question with the lowest hash. Raises UserError for fewer questions than splits.
    """
    places = {question_of(r): step.place(r) for r in records if r.split == step.rest}
    if not places:
        return list(records)  # all of them came with a split of their own
    split_of = {question_of(r): step.split_of(r) for r in records if r.split == step.rest}
    wanted = (step.rest, *step.shares)
    if len(places) < len(wanted):
        raise UserError(
            f"{len(places)} questions: too few for {', '.join(wanted)}, which get one each at "
            "least; bring more, or ask for fewer splits"
        )
    for split in wanted:
        sizes = Counter(split_of.values())
        if not sizes[split]:
            largest = max(wanted, key=lambda name: sizes[name])
            given = min((q for q in places if split_of[q] == largest), key=places.__getitem__)
            split_of[given] = split
    return [
        replace(record, split=split_of[question_of(record)])
        if record.split == step.rest
        else record
        for record in records
    ]


def counts(records: Sequence[Record]) -> str:
    """How many records each split has: "train 8, validation 2"."""
    found = Counter(record.split for record in records)
    return ", ".join(f"{split} {count}" for split, count in found.most_common())
