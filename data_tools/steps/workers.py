"""Who does a job's batches: the cores of this machine, or a Ray cluster (`ray_engine`).

An executor opens the job once per worker and gives results back as they are done, in any order.
What is done is kept by the caller, batch by batch, so any executor goes on where another stopped.
"""

from __future__ import annotations

import os
import pickle
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Protocol

from omni.files import UserError


class Work(Protocol):
    """One worker's hold on a job: its engines, model or connection; used by one thread."""

    def __call__(self, items: Sequence[Any], /) -> Sequence[Any]:
        """One result per item, in order; equal for equal items, whatever the batch."""
        ...

    def close(self) -> None:
        """Lets go of what the job opened; called once."""
        ...


class Job(Protocol):
    """What is done to items. Frozen: it is pickled, and travels to every worker."""

    @property
    def workers(self) -> int | None:
        """How many, if nobody says; None: one per core, or per GPU of a cluster."""
        ...

    @property
    def device(self) -> str:
        """Where a worker computes: a name that omni.devices knows."""
        ...

    def open(self, root: Path) -> Work:
        """Called once per worker; `root`: where relative paths start."""
        ...


def workers_on(device: str) -> int | None:
    """As a `Job`'s: a GPU holds the model once; cores do more as processes than as threads."""
    if device == "auto":
        from omni.devices import choose_device

        device = choose_device().type
    return None if device == "cpu" else 1


Results = Generator[tuple[int, Sequence[Any]], None, None]


class Executor(Protocol):
    """Who does the batches of a job; the results are the same with any."""

    def run(
        self, job: Job, batches: Sequence[Sequence[Any]], *, root: Path, workers: int | None = None
    ) -> Results:
        """(place of the batch, its results), each as soon as it is there.

        The first error of a worker is raised here, after the results that were there before.
        Close the generator to be rid of the workers.
        """
        ...


@dataclass(frozen=True)
class LocalExecutor:
    """All cores of this machine, one process each; a single worker is this process itself.

    The batches lie in a `datasets.Dataset`, whose Arrow memory all processes read without a copy,
    and torch's `DataLoader` deals its rows out to whoever is free. `Dataset.map(num_proc=...)`
    would give nothing back before all rows are done: a killed run would lose everything.
    """

    def run(
        self, job: Job, batches: Sequence[Sequence[Any]], *, root: Path, workers: int | None = None
    ) -> Results:
        """As `Engine.run`; workers: None takes the job's own number, else one per core."""
        count = min(workers or job.workers or os.cpu_count() or 1, len(batches))
        if count <= 1:
            return in_turn(job, batches, root)
        return in_processes(job, batches, root, workers=count)


def in_turn(job: Job, batches: Sequence[Sequence[Any]], root: Path) -> Results:
    """In this process, batch by batch."""
    work = job.open(root)
    try:
        for place, batch in enumerate(batches):
            yield place, work(batch)
    finally:
        work.close()


def in_processes(
    job: Job, batches: Sequence[Sequence[Any]], root: Path, *, workers: int
) -> Results:
    """In worker processes. Raises UserError if one of them is killed, as for want of memory."""
    from datasets import Dataset
    from torch.utils.data import DataLoader

    failure: Exception | None = None

    def places() -> Iterator[int]:
        """All rows in turn, and no more of them after a failure."""
        for place in range(len(batches)):
            if failure is not None:
                return
            yield place

    with warnings.catch_warnings():
        # More processes than cores are right for those that wait for a server.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        rows = iter(
            DataLoader(
                Dataset.from_list(packed(batches)),  # pyright: ignore[reportArgumentType]  # has what it takes
                batch_size=None,  # a row is a batch already
                sampler=places(),
                num_workers=workers,
                collate_fn=Worker(job, root),  # pyright: ignore[reportArgumentType]  # takes a row
                in_order=False,
            )
        )
    try:
        for row in rows:
            place, results = unpacked(row)
            if isinstance(results, Exception):
                failure = failure or results  # batches that others have begun are worth their while
            else:
                yield place, results
    except RuntimeError as error:  # the loader's own: a worker's come as values
        raise UserError(
            f"{error}; if memory ran out, take fewer workers, then run it again"
        ) from error
    if failure is not None:
        raise failure


class Worker:
    """Turns a row that holds a batch into one that holds its results, in whatever process it is."""

    def __init__(self, job: Job, root: Path) -> None:
        self.job = job
        self.root = root
        self.work: Work | None = None
        self.close: Finalize | None = None  # closes the work, once: as the process ends, or before

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """{"place", "batch"} with the batch pickled -> the same with its pickled results."""
        return {"place": row["place"], "batch": pickle.dumps(self.results(row["batch"]))}

    def results(self, batch: bytes) -> Sequence[Any] | Exception:
        """An error comes back as a value: executors would wrap it in a text of their own."""
        try:
            if self.work is None:
                self.work = self.job.open(self.root)
                self.close = Finalize(self.work, self.work.close, exitpriority=0)
            return self.work(pickle.loads(batch))
        except Exception as error:
            error.add_note("".join(traceback.format_exception(error)))  # it can't travel by itself
            return error


def packed(batches: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows that an Arrow table can hold."""
    return [{"place": place, "batch": pickle.dumps(batch)} for place, batch in enumerate(batches)]


def unpacked(row: dict[str, Any]) -> tuple[int, Sequence[Any] | Exception]:
    """(place of the batch, its results or the error that it met)."""
    return row["place"], pickle.loads(row["batch"])


def ray_executor(address: str | None) -> Executor:
    """A Ray cluster. Raises UserError if Ray is not installed."""
    from data_tools.steps.ray_workers import RayExecutor

    return RayExecutor(address=address)


EXECUTORS: dict[str, Callable[[str | None], Executor]] = {
    "local": lambda address: LocalExecutor(),
    "ray": ray_executor,
}


def executor_of(name: str, address: str | None = None) -> Executor:
    """address: of a Ray cluster. Raises UserError for an executor that isn't known or installed."""
    if name not in EXECUTORS:
        raise UserError(f"executor {name!r}: must be one of {', '.join(EXECUTORS)}")
    if address is not None and name != "ray":
        raise UserError(f"ray address {address}: needs --executor ray; add it, or leave this out")
    return EXECUTORS[name](address)
