"""Where a model runs and in which type: chosen by name, refused where it is not there."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from omni.files import UserError, cache_folder, measured_once, this_machine

log = logging.getLogger(__name__)

DEVICE_RULE = "auto, cpu, cuda, cuda:N or mps"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPE_RULE = f"auto, {', '.join(DTYPES)}"
ROWS, WIDTH, TRIES = 32, 1024, 5  # of the product that is timed: some milliseconds in all
CLEARLY = 2 / 3  # bfloat16 must take at most this share of float32's time to be worth its rounding


def move(
    module: nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> None:
    """Puts the module's weights into that type and there, in place; None leaves either as it is.

    Buffers keep their type, as in `from_pretrained`: with the frequencies of an LLM's rotary
    positions rounded to bfloat16, angles are wrong, and the more so the further on a token stands.
    """
    if dtype is not None:
        for weight in module.parameters():
            if weight.is_floating_point():  # quantised ones are whole numbers
                weight.data = weight.data.to(dtype)
    module.to(device=device)


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name: auto, cpu, cuda, cuda:N or mps.

    auto: a CUDA GPU, else Apple's, else the CPU. `cuda` without a number is the GPU of this
    process: of several on one machine (LOCAL_RANK, as torchrun says it) each has its own.
    Raises UserError for another name and for a device that is not there.
    """
    check_names(name)
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
        device = choose_device(found)
        log.info("device: %s", device)
        return device
    if name.startswith("cuda"):
        return torch.device("cuda", _gpu(name))
    if name == "mps" and not _has_mps():
        raise UserError(
            "device='mps': must be a device that is there, and torch finds no Apple GPU; take auto "
            "or cpu"
        )
    return torch.device(name)


def check_names(device: str = "auto", dtype: str = "auto") -> None:
    """Raises UserError for what is no device or no type anywhere; another machine may have it."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", device):
        raise UserError(
            f"device={device!r}: must be {DEVICE_RULE}; auto takes a GPU if there is one"
        )
    if dtype != "auto" and dtype not in DTYPES:
        raise UserError(f"dtype={dtype!r}: must be {DTYPE_RULE}; auto takes what is fast here")


def exact_device(device: torch.device) -> torch.device:
    """Where float64 exists, in which a vocoder counts time: there, but beside an Apple GPU."""
    return torch.device("cpu") if device.type == "mps" else device


def choose_dtype(name: str, device: torch.device, *, memory: Path | None = None) -> torch.dtype:
    """The type of that name: auto, float32, bfloat16 or float16.

    auto: bfloat16 where the hardware is fast in it, else float32. A CUDA GPU says whether it is;
    elsewhere a small product is timed in both once, and the result remembered for this machine.
    memory: where, None for the user's cache folder.
    Raises UserError for another name.
    """
    check_names(dtype=name)
    if name in DTYPES:
        return DTYPES[name]
    if device.type == "cuda":
        with torch.cuda.device(device):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = _found_fast(device, memory or cache_folder() / "dtypes.json")
    chosen = torch.bfloat16 if fast else torch.float32
    log.info("dtype: %s on %s", str(chosen).removeprefix("torch."), device)
    return chosen


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _gpu(name: str) -> int:
    """The number of a GPU that is there."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UserError(
            f"device={name!r}: must be a device that is there, and this torch "
            f"({torch.__version__}) finds no CUDA GPU; take auto or cpu, or install a torch and a "
            "driver for the GPU"
        )
    if ":" not in name:
        return int(os.environ.get("LOCAL_RANK", "0")) % count
    number = int(name.partition(":")[2])
    if number >= count:
        raise UserError(
            f"device={name!r}: must be a device that is there, cuda:0 to cuda:{count - 1}; take "
            "one of them, or cuda"
        )
    return number


def _found_fast(device: torch.device, memory: Path) -> bool:
    what = f"{this_machine()}, {device.type}, {torch.get_num_threads()} threads"
    return measured_once(memory, what, lambda: is_fast_in_bfloat16(product(device)))


def product(device: torch.device) -> Callable[[torch.dtype], float]:
    """Times a product of matrices as a batch of tokens meets them: type -> seconds."""
    operands = {
        dtype: (
            torch.ones(ROWS, WIDTH, dtype=dtype, device=device),
            torch.ones(WIDTH, WIDTH, dtype=dtype, device=device),
        )
        for dtype in (torch.float32, torch.bfloat16)
    }

    def seconds(dtype: torch.dtype) -> float:
        tokens, weights = operands[dtype]
        started = time.perf_counter()
        (tokens @ weights)[0, 0].item()  # reading a number waits for the device
        return time.perf_counter() - started

    return seconds


def is_fast_in_bfloat16(seconds: Callable[[torch.dtype], float]) -> bool:
    """Whether bfloat16 takes clearly less time than float32.

    seconds: does a piece of work in a type, and gives the time that it took. The best of some
    tries counts, in turns: another program's load makes a try slower, never faster.
    """
    best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(1 + TRIES):  # the first one pays for set-up
        for dtype in best:
            best[dtype] = min(best[dtype], seconds(dtype))
    return best[torch.bfloat16] <= CLEARLY * best[torch.float32]
