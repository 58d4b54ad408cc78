"""Several manifests as one, whose recordings are found from where it lies."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data_tools.manifest.record import Manifest, Record, RecordTurn
from omni.files import UserError


def joined(
    manifests: Sequence[tuple[Path, Manifest]], root: Path, *, rename: bool = False
) -> list[Record]:
    """The records of all (path, manifest), in this order, for a manifest in the folder `root`.

    Relative audio paths start from `root`; absolute ones stay.
    rename: an id that an earlier manifest has gets its own manifest's number behind it ("q7-2");
    without it such an id raises UserError that names both files.
    """
    taken: dict[str, Path] = {}
    records = []
    for number, (path, manifest) in enumerate(manifests, start=1):
        for record in manifest.records:
            name = record.id
            if rename and name in taken:
                name = f"{name}-{number}"
            if name in taken:
                raise UserError(
                    f"{path}: id {name!r} is already that of a record in {taken[name]}; ids must "
                    "be unique: join with --rename, or leave one manifest out"
                )
            taken[name] = path
            turns = tuple(moved(turn, manifest.root, root) for turn in record.turns)
            records.append(replace(record, id=name, turns=turns))
    return records


def moved(turn: RecordTurn, old_root: Path, root: Path) -> RecordTurn:
    """The turn with its recording's path as a manifest in `root` has it."""
    if turn.speech is None or Path(turn.speech).is_absolute():
        return turn
    # resolved first: ".." behind a linked folder leads elsewhere
    return replace(turn, speech=os.path.relpath((old_root / turn.speech).resolve(), root.resolve()))
