"""What this machine was once measured to do best, kept for the next start."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from omni.files.folders import CheckpointError, read_json, write_json


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/omni, or ~/.cache/omni."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "omni"


def this_machine() -> str:
    """What a choice holds for; a home folder may serve many machines, and a name several ones."""
    processor = f"{os.cpu_count()} x {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return f"{platform.node()}, {processor}, torch {torch.__version__}"


def recall(memory: Path) -> dict[str, Any]:
    """What the file knows; nothing if it is not there or not readable, as it is only a memory."""
    try:
        return read_json(memory)
    except CheckpointError:
        return {}


def remember(memory: Path, known: dict[str, Any]) -> None:
    """Write it down, if there is a place: with a read-only home the next start measures again."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_json(memory, known)
    except OSError:
        return


def measured_once(memory: Path, what: str, measure: Callable[[], bool]) -> bool:
    """What the file knows of `what`; measured and written down where it does not."""
    known = recall(memory)
    if not isinstance(known.get(what), bool):
        known[what] = measure()
        remember(memory, known)
    return known[what]
