"""How many CPU threads answer soonest: tried once, and remembered for this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from omni.checkpoint import CheckpointError, read_json, write_json
from omni.model import OmniForConditionalGeneration

SMALL_MODEL = 200_000_000  # parameters; above, threads pay and a probe takes long


def choose_threads(
    model: OmniForConditionalGeneration, answer: Callable[[], float], *, memory: Path | None = None
) -> None:
    """Set torch's threads to the faster of one and torch's own choice.

    A small model's threads mostly wait for each other. Large models and GPUs keep torch's choice.
    answer: answers once, and gives the seconds that it took. memory: where choices are kept, None
    for the user's cache folder; without a place to write, each start tries again.
    """
    many = torch.get_num_threads()
    if model.device.type != "cpu" or model.num_parameters() >= SMALL_MODEL or many == 1:
        return
    memory = memory or cache_folder() / "threads.json"
    machine = _machine(model.num_parameters(), many)
    known = _recall(memory)
    if known.get(machine) not in (1, many):
        known[machine] = _faster(answer, many)
        _remember(memory, known)
    torch.set_num_threads(known[machine])


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/omni, or ~/.cache/omni."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "omni"


def _faster(answer: Callable[[], float], many: int) -> int:
    answer()  # the first one pays for set-up
    took = dict.fromkeys((many, 1), 0.0)
    for threads in (many, 1, many, 1):  # in turns: a passing load hits both
        torch.set_num_threads(threads)
        took[threads] += answer()
    return min(took, key=lambda threads: took[threads])


def _machine(parameters: int, many: int) -> str:
    """What the choice holds for; a home folder may serve many machines."""
    return (
        f"{platform.node()}, {platform.machine()}, {many} threads, torch {torch.__version__}, "
        f"{parameters} parameters"
    )


def _recall(memory: Path) -> dict[str, Any]:
    try:
        return read_json(memory)
    except CheckpointError:  # none yet, or not readable: it is only a memory
        return {}


def _remember(memory: Path, known: dict[str, Any]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_json(memory, known)
    except OSError:
        return  # a read-only home: the next start tries again
