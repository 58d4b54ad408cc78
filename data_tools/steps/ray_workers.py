"""A Ray cluster does a job's batches, as the actors of a Ray Data pipeline.

Every node needs this package, and the job's folder under the same path: recordings are read and
written there. Only records travel through Ray.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.steps.workers import Job, Results, Work, Worker, packed, unpacked
from omni.files import UserError, need

# Results come back block by block. 1000 of them cost the driver about 9 s (1000 batches in 100
# blocks: 1 s), so a worker's share is cut into so many, and a kill loses at most one per worker.
BLOCKS_PER_WORKER = 100
TOKEN = ".shared"  # lies in the job's folder during a run: who reads it there has the same storage


@dataclass(frozen=True)
class RayExecutor:
    """address: of the cluster, or "auto" on one of its nodes; None takes RAY_ADDRESS, then a
    cluster that runs on this machine, and starts one of this machine alone if there is none."""

    address: str | None = None

    def __post_init__(self) -> None:
        need("ray", "ray", "--executor ray")

    def run(
        self, job: Job, batches: Sequence[Sequence[Any]], *, root: Path, workers: int | None = None
    ) -> Results:
        """As `Engine.run`. Raises UserError if the cluster is out of reach or has no such room."""
        if not batches:
            return
        import ray.data

        self.connect()
        resources = ray.cluster_resources()
        gpus = gpus_per_worker(job.device, resources)
        most = int(resources.get("GPU" if gpus else "CPU", 0))
        count = workers or (None if gpus else job.workers) or most
        if count > most:
            raise UserError(
                f"workers={count}: the cluster has room for {most}, one per "
                f"{'GPU' if gpus else 'core'}; add nodes, or ask for fewer"
            )
        count = min(count, len(batches))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # the step shows its own
        context.print_on_execution_start = False
        with shared(root.resolve()) as token:
            blocks = min(len(batches), BLOCKS_PER_WORKER * count)
            rows = ray.data.from_items(packed(batches), override_num_blocks=blocks)
            done = rows.map(
                RayWorker,  # pyright: ignore[reportArgumentType]  # a class is called per row
                fn_constructor_args=(job, root.resolve(), token),
                compute=ray.data.ActorPoolStrategy(size=count),
                num_cpus=1,
                num_gpus=gpus,
            )
            results = iter(done.iter_rows())
            try:
                for row in results:
                    place, outcome = unpacked(row)
                    if isinstance(outcome, Exception):
                        raise outcome
                    yield place, outcome
            finally:
                # Ray ends a run that is left midway once nothing refers to it; the traceback of an
                # error would, through this frame, and the run would go on in the background.
                del rows, done, results

    def connect(self) -> None:
        """Once per process; Ray itself disconnects as it ends."""
        import ray

        # Ray would count what is run and send it to its makers; nobody asked for that.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if ray.is_initialized():
            return
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError) as error:
            address = self.address or os.environ.get("RAY_ADDRESS")
            raise UserError(
                f"Ray cluster {address or 'of this machine'}: can't be reached ({error}); start it "
                "with `ray start --head`, or correct --ray-address"
            ) from None


class RayWorker(Worker):
    """A worker on some node of the cluster."""

    def __init__(self, job: Job, root: Path, token: str) -> None:
        super().__init__(SharedJob(job, token), root)

    def __del__(self) -> None:
        if self.close is not None:
            self.close()


@dataclass(frozen=True)
class SharedJob:
    """A job that is done only where its folder is the one that the run was started in."""

    job: Job
    token: str

    @property
    def workers(self) -> int | None:
        """The job's."""
        return self.job.workers

    @property
    def device(self) -> str:
        """The job's."""
        return self.job.device

    def open(self, root: Path) -> Work:
        """The job's work. Raises UserError on a node that does not see the folder."""
        path = root / TOKEN
        if not path.is_file() or path.read_text() != self.token:
            raise UserError(
                f"{root}: a node of the cluster ({os.uname().nodename}) doesn't see this folder; "
                "put the data set on storage that all nodes mount under the same path"
            )
        return self.job.open(root)


@contextmanager
def shared(root: Path) -> Generator[str]:
    """A token that lies in the folder as long as the run lasts."""
    token, path = secrets.token_hex(8), root / TOKEN
    path.write_text(token)
    try:
        yield token
    finally:
        path.unlink(missing_ok=True)


def gpus_per_worker(device: str, resources: Mapping[str, float]) -> int:
    """Ray hides the GPUs from whoever didn't ask for one."""
    if device.startswith("cuda") and not resources.get("GPU"):
        raise UserError(f"device {device}: the cluster has no GPU; add a node with one, or use cpu")
    return int(device.startswith("cuda") or (device == "auto" and bool(resources.get("GPU"))))
