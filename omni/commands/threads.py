"""How many CPU threads answer soonest: tried once, and remembered for this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from omni.files import cache_folder, recall, remember, this_machine
from omni.model import OmniForConditionalGeneration

SMALL_MODEL = 200_000_000  # parameters; above, threads pay and a probe takes long


def recall_threads(model: OmniForConditionalGeneration, *, memory: Path | None = None) -> bool:
    """Set torch's threads to what `choose_threads` once found; False if it has yet to try."""
    many = torch.get_num_threads()
    if not _may_choose(model, many):
        return True
    known = recall(memory or _memory()).get(_machine(model.num_parameters(), many))
    if known not in (1, many):
        return False
    torch.set_num_threads(known)
    return True


def choose_threads(
    model: OmniForConditionalGeneration, answer: Callable[[], float], *, memory: Path | None = None
) -> None:
    """Set torch's threads to the faster of one and torch's own choice.

    A small model's threads mostly wait for each other. Large models and GPUs keep torch's choice.
    answer: answers once, and gives the seconds that it took. memory: where choices are kept, None
    for the user's cache folder; without a place to write, each start tries again.
    """
    many = torch.get_num_threads()
    if recall_threads(model, memory=memory):
        return
    fastest = _faster(answer, many)
    memory = memory or _memory()
    remember(memory, recall(memory) | {_machine(model.num_parameters(), many): fastest})
    torch.set_num_threads(fastest)


def _may_choose(model: OmniForConditionalGeneration, many: int) -> bool:
    return model.device.type == "cpu" and model.num_parameters() < SMALL_MODEL and many > 1


def _memory() -> Path:
    return cache_folder() / "threads.json"


def _faster(answer: Callable[[], float], many: int) -> int:
    answer()  # the first one pays for set-up
    took = dict.fromkeys((many, 1), 0.0)
    for threads in (many, 1, many, 1):  # in turns: a passing load hits both
        torch.set_num_threads(threads)
        took[threads] += answer()
    return min(took, key=lambda threads: took[threads])


def _machine(parameters: int, many: int) -> str:
    return f"{this_machine()}, {many} threads, {parameters} parameters"
