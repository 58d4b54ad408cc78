"""How many CPU threads answer soonest: tried once, and remembered for this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from omni.files import cache_folder, recall, remember, this_machine
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
    known = recall(memory)
    if known.get(machine) not in (1, many):
        known[machine] = _faster(answer, many)
        remember(memory, known)
    torch.set_num_threads(known[machine])


def _faster(answer: Callable[[], float], many: int) -> int:
    answer()  # the first one pays for set-up
    took = dict.fromkeys((many, 1), 0.0)
    for threads in (many, 1, many, 1):  # in turns: a passing load hits both
        torch.set_num_threads(threads)
        took[threads] += answer()
    return min(took, key=lambda threads: took[threads])


def _machine(parameters: int, many: int) -> str:
    return f"{this_machine()}, {many} threads, {parameters} parameters"
