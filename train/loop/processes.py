"""The processes of one training run, as a launcher starts them: who is first, who waits.

One process writes what all of them read. Without torchrun or accelerate there is one process, and
nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import distributed

from omni.files import ALONE, Share

T = TypeVar("T")
# A process that fails ends the others through the launcher; a slow one must not: caches of many
# hours are not filled in step.
PATIENCE = timedelta(days=2)


def main_process() -> bool:
    """Whether this is the one process of a run that writes results."""
    return int(os.environ.get("RANK", "0")) == 0


def launched() -> bool:
    """Whether a launcher has started this process, be it the only one."""
    return "RANK" in os.environ


def process_count() -> int:
    """How many processes the launcher has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def share() -> Share:
    """This process's share of what all do together; they find each other at the first call."""
    if process_count() == 1:
        return ALONE
    _join()
    return Share(distributed.get_rank(), distributed.get_world_size(), _wait)


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives in the first process, in every process; the others do not call it.

    Where it fails, the first process ends with its error, and the launcher ends the others.
    """
    if process_count() == 1:
        return make()
    _join()
    box = [make() if main_process() else None]
    # Sent as bytes in memory: the values are of this program's own classes.
    distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return cast(T, box[0])


def _join() -> None:
    if distributed.is_initialized():
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, timeout=PATIENCE)


def _wait() -> None:
    # Through CPU memory: a barrier on GPUs would take the first of them for its own.
    distributed.all_reduce(torch.zeros(1))
