"""Before a measurement with random weights: where it runs, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from tqdm import tqdm

from omni.commands import compiling, quieten
from omni.devices import choose_device, choose_dtype
from omni.session import compile_steps
from serve.bench.latency.sizes import Subject


def prepare(
    device: str, dtype: str | None, threads: int | None
) -> tuple[torch.device, torch.dtype]:
    """Device and type of these names; dtype: None is float32 on a CPU, else bfloat16.

    threads: of the CPU, None leaves torch's own choice. Raises UserError for what is not there.
    """
    quieten()
    place = choose_device(device)
    kind = choose_dtype(dtype or ("float32" if place.type == "cpu" else "bfloat16"), place)
    if threads is not None:
        torch.set_num_threads(threads)
    return place, kind


@contextmanager
def advancing(unit: str) -> Generator[Callable[[int, int], None]]:
    """A progress bar, and what to call with how many units are done, of how many."""
    with tqdm(unit=unit) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def compile_ours(subject: Subject) -> None:
    """Compile the steps of our sessions; those of variants of the subject use them as well."""
    with compiling() as progress:
        compile_steps(subject.model, progress=progress)
