"""A step: records in, the same records richer by something out, one to one by id.

Every batch that is done goes into a journal, as one line under the hash of all that it depends on.
A run that was killed loses at most the batches in hand; another setting, a changed record or a
grown data set redoes exactly what is new. What a step knows about engines stays in its `Work`, so
that another runner than this one (threads on one machine) can call the same objects.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from data_tools.journal import LeftOut, alone, journal_line, read_journal, write_journal
from data_tools.manifest import Manifest, Record, row_from_record, write_manifest
from omni.errors import UserError

FEW = 20  # so many records may be left out, whatever their share


class Work(Protocol):
    """One worker's hold on a step: its engines, model or connection; used by one thread."""

    def __call__(self, records: Sequence[Record]) -> Sequence[Record | LeftOut]:
        """One result per record, in order; equal for equal records, whatever the batch."""
        ...

    def close(self) -> None: ...


class Step(Protocol):
    """What is done to records; audio paths are relative to `root` going in and coming out."""

    name: str
    batch_size: int
    workers: int | None  # None: one per core

    def settings(self) -> dict[str, Any]:
        """All that the result depends on besides the record, as JSON holds it."""
        ...

    def size(self, record: Record, root: Path) -> float:
        """Records of like size share a batch."""
        ...

    def open(self, root: Path) -> Work:
        """Called once per worker."""
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
) -> StepResult:
    """Does what the journal doesn't hold yet, and leaves the journal holding exactly this result.

    workers: threads, each with a `Work` of its own. They are enough: engines are processes of
    their own, and torch, numpy's transforms and soxr let go of the interpreter.
    max_left_out: a larger share without result (and more than 20 records) is an error.
    Raises UserError if so, or if another run holds the journal.
    """
    keys = content_keys(records, step, root)
    journal.parent.mkdir(parents=True, exist_ok=True)
    with alone(journal):
        found = list(read_journal(journal))
        known = {key: result for key, result in found if is_whole(result, root)}
        todo = [
            (key, record) for key, record in zip(keys, records, strict=True) if key not in known
        ]
        made = len(todo)
        if todo:
            write_journal(journal, known.items())  # without the torn last line of a killed run
            todo.sort(key=lambda item: (step.size(item[1], root), item[1].id))
            batches = [
                todo[start : start + step.batch_size]
                for start in range(0, len(todo), step.batch_size)
            ]
            limit = max(FEW, max_left_out * len(records))
            refused = sum(isinstance(known.get(key), LeftOut) for key in keys)
            count = workers or step.workers or os.cpu_count() or 1
            with (
                journal.open("a", encoding="utf-8") as lines,
                tqdm(total=len(records), initial=len(records) - made, desc=step.name) as bar,
            ):
                for batch, results in worked(batches, step, root, workers=min(count, len(batches))):
                    done = [(key, r) for (key, _), r in zip(batch, results, strict=True)]
                    lines.write(journal_line(done))
                    lines.flush()
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
    aside = path.with_name(path.name + ".partial")
    aside.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    aside.replace(path)


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
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


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


def worked(
    batches: Sequence[Sequence[tuple[str, Record]]], step: Step, root: Path, *, workers: int
) -> Iterator[tuple[Sequence[tuple[str, Record]], Sequence[Record | LeftOut]]]:
    """(batch, results) as they are done; an error ends the run once the others' batches are."""
    own = threading.local()
    opened: list[Work] = []

    def start() -> None:
        own.work = step.open(root)
        opened.append(own.work)

    def do(batch: Sequence[tuple[str, Record]]) -> Sequence[Record | LeftOut]:
        if not hasattr(own, "work"):
            start()  # here and not as the pool's initializer, which would hide the error
        return own.work([record for _, record in batch])

    pool = ThreadPoolExecutor(workers)
    waiting = iter(batches)
    running: dict[Future[Sequence[Record | LeftOut]], Sequence[tuple[str, Record]]] = {}
    try:
        failure: BaseException | None = None
        while True:
            while not failure and len(running) < 2 * workers and (batch := next(waiting, None)):
                running[pool.submit(do, batch)] = batch
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                batch = running.pop(future)
                if future.cancelled():
                    continue
                if (error := future.exception()) is None:
                    yield batch, future.result()
                elif failure is None:
                    failure = error
                    for other in running:  # those that have begun are worth their while
                        other.cancel()
        if failure:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)
        for work in opened:
            work.close()


def too_many(
    step: Step, records: Sequence[Record], keys: Sequence[str], known: dict[str, Record | LeftOut]
) -> UserError:
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
