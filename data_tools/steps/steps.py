"""A step: records in, the same records richer by something out, one to one by id.

Every batch that is done goes into a journal, as one line under the hash of all that it depends on.
A run that was killed loses at most the batches in hand; another setting, a changed record or a
grown data set redoes exactly what is new. Who does the batches, this machine or a cluster, is an
`Executor`'s affair and leaves no trace in the result.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from data_tools.manifest import Manifest, Record, row_from_record, write_manifest
from data_tools.steps.journal import (
    LeftOut,
    journal_row,
    read_journal,
    write_journal,
)
from data_tools.steps.workers import Executor, Job, LocalExecutor
from omni.files import UserError, appending, digest_of, held, write_lines

FEW = 20  # so many records may be left out, whatever their share


class Step(Job, Protocol):
    """A job on records; audio paths are relative to `root` going in and coming out.

    Its work gives a `Record` or `LeftOut` per record.
    """

    @property
    def name(self) -> str:
        """What it does, in a word: it names the journal and stands on the bar."""
        ...

    @property
    def batch_size(self) -> int:
        """Records that a worker takes at a time."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that the result depends on besides the record, as JSON holds it."""
        ...

    def size(self, record: Record, root: Path) -> float:
        """Records of like size share a batch."""
        ...


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """records: in the order they came in. left_out: id -> reason. made: how many were new."""

    records: list[Record]
    left_out: dict[str, str] = field(default_factory=dict)
    made: int = 0


def run_step(
    records: Sequence[Record],
    step: Step,
    *,
    root: Path,
    journal: Path,
    workers: int | None = None,
    max_left_out: float = 0.05,
    executor: Executor | None = None,
) -> StepResult:
    """Does what the journal doesn't hold yet, and leaves the journal holding exactly this result.

    workers: how many, each with a `Work` of its own; None leaves it to step and executor.
    max_left_out: a larger share without result (and more than 20 records) is an error.
    Raises UserError if so, or if another run holds the journal.
    """
    keys = content_keys(records, step, root)
    journal.parent.mkdir(parents=True, exist_ok=True)
    with held(journal):
        found = list(read_journal(journal))
        known = {key: result for key, result in found if is_whole(result, root)}
        todo = [
            (key, record) for key, record in zip(keys, records, strict=True) if key not in known
        ]
        made = len(todo)
        if todo:
            write_journal(journal, known.items())
            todo.sort(key=lambda item: (step.size(item[1], root), item[1].id))
            batches = [
                todo[start : start + step.batch_size]
                for start in range(0, len(todo), step.batch_size)
            ]
            limit = max(FEW, max_left_out * len(records))
            refused = sum(isinstance(known.get(key), LeftOut) for key in keys)
            running = (executor or LocalExecutor()).run(
                step,
                [[record for _, record in batch] for batch in batches],
                root=root,
                workers=workers,
            )
            with (
                closing(running),
                appending(journal) as append,
                tqdm(total=len(records), initial=len(records) - made, desc=step.name) as bar,
            ):
                for place, results in running:
                    batch = batches[place]
                    done = [(key, r) for (key, _), r in zip(batch, results, strict=True)]
                    append([journal_row(done)])
                    known.update(done)
                    bar.update(len(batch))
                    refused += sum(isinstance(result, LeftOut) for result in results)
                    if refused > limit:
                        raise too_many(step, records, keys, known)
        if todo or [key for key, _ in found] != keys:
            # In the order of the records, so that the way here leaves no trace.
            write_journal(journal, [(key, known[key]) for key in keys])
    results = [known[key] for key in keys]
    return StepResult(
        records=[result for result in results if isinstance(result, Record)],
        left_out={
            record.id: result.reason
            for record, result in zip(records, results, strict=True)
            if isinstance(result, LeftOut)
        },
        made=made,
    )


def step_over_file(
    source: Manifest,
    step: Step,
    out: Path,
    *,
    workers: int | None = None,
    max_left_out: float = 0.05,
    executor: Executor | None = None,
) -> StepResult:
    """`run_step` from a manifest into another one; audio that the step makes lies beside `out`.

    What was left out is listed in NAME.left_out.jsonl beside it, or that file is removed.
    """
    records = [rebased(record, source.root, out.parent) for record in source.records]
    result = run_step(
        records,
        step,
        root=out.parent,
        journal=out.with_name(f".{out.stem}.{step.name}.journal"),
        workers=workers,
        max_left_out=max_left_out,
        executor=executor,
    )
    write_left_out(out, {step.name: result.left_out})
    write_manifest(out, result.records)
    return result


def write_left_out(out: Path, by_step: dict[str, dict[str, str]]) -> None:
    """OUT.left_out.jsonl: {"id", "step", "reason"} per line; no file if nothing was left out."""
    path = out.with_name(f"{out.stem}.left_out.jsonl")
    rows = [
        {"id": record, "step": step, "reason": reason}
        for step, reasons in by_step.items()
        for record, reason in reasons.items()
    ]
    if not rows:
        path.unlink(missing_ok=True)
        return
    write_lines(path, rows)


def rebased(record: Record, old: Path, new: Path) -> Record:
    """The record with audio paths that start from another folder; absolute ones stay."""
    old, new = old.resolve(), new.resolve()
    if old == new:
        return record
    turns = tuple(
        turn
        if turn.speech is None or os.path.isabs(turn.speech)
        else replace(turn, speech=os.path.relpath(old / turn.speech, new))
        for turn in record.turns
    )
    return replace(record, turns=turns)


def digest(*parts: Any, length: int = 24) -> str:
    """Hex digits that change with any part; parts are what JSON holds."""
    return digest_of(*parts, length=length)


def content_keys(records: Sequence[Record], step: Step, root: Path) -> list[str]:
    """A key per record: its content, the recordings it names, and the step's settings."""
    settings = digest(step.name, step.settings())
    return [digest(settings, row_from_record(record), stamps(record, root)) for record in records]


def stamps(record: Record, root: Path) -> list[list[int] | None]:
    """(size, time of change) of each turn's recording: a file made anew is another one."""
    found: list[list[int] | None] = []
    for turn in record.turns:
        try:
            state = (root / turn.speech).stat() if turn.speech else None
        except FileNotFoundError:
            state = None
        found.append(state and [state.st_size, state.st_mtime_ns])
    return found


def is_whole(result: Record | LeftOut, root: Path) -> bool:
    """Whether the recordings that a result names are there; someone may have removed them."""
    return isinstance(result, LeftOut) or all(
        (root / turn.speech).is_file() for turn in result.turns if turn.speech
    )


def too_many(
    step: Step, records: Sequence[Record], keys: Sequence[str], known: dict[str, Record | LeftOut]
) -> UserError:
    """The error for more records left out than allowed, with the first three reasons."""
    reasons = {
        record.id: result.reason
        for record, key in zip(records, keys, strict=True)
        if isinstance(result := known.get(key), LeftOut)
    }
    first = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:3])
    return UserError(
        f"{step.name}: {len(reasons)} of {len(records)} records have no result ({first}); mend the "
        "cause, or allow more with max_left_out"
    )
