"""What every command does before its first reply: load, place, quieten, warm up."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers.utils import logging

from omni.audio import SAMPLE_RATE
from omni.commands.threads import choose_threads
from omni.devices import choose_device, choose_dtype
from omni.language_model import merge_adapter
from omni.loading import load
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.session import SessionConfig, SpeechSession
from omni.vocoder import Fixed

WARM_UP_TOKENS = 8  # enough to run every part


def quieten() -> None:
    """Keep the terminal for the answer: no progress bars and notices of transformers."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def start(
    checkpoint: str | Path | None,
    *,
    threads: int | None = None,
    device: str = "auto",
    dtype: str | None = None,
    adapter_apart: bool = False,
) -> tuple[OmniForConditionalGeneration, OmniProcessor]:
    """Load a checkpoint (None: the embedded nano) onto a device; see omni.devices for the names.

    threads: torch's CPU threads; None leaves them. dtype: None is float32 on a CPU and the stored
    type elsewhere. adapter_apart: leave the LLM's LoRA beside its base, for who asks the base as
    well; else it is merged, for a command that answers saves nothing and a step is quicker.
    Raises UserError for a device that is not there.
    """
    place = choose_device(device)
    kind = None if dtype is None else choose_dtype(dtype, place)
    quieten()
    if threads is not None:
        torch.set_num_threads(threads)
    model, processor = load(
        checkpoint, device_map=None if place.type == "cpu" else place, dtype=kind
    )
    if not adapter_apart:
        model.language_model = merge_adapter(model.language_model)
    return model, processor


def settle_threads(
    model: OmniForConditionalGeneration, processor: OmniProcessor, config: SessionConfig
) -> None:
    """Take the number of CPU threads that answers soonest; see choose_threads."""

    def seconds() -> float:
        started = time.perf_counter()
        warm_up(model, processor, config)
        return time.perf_counter() - started

    choose_threads(model, seconds)


def warm_up(
    model: OmniForConditionalGeneration, processor: OmniProcessor, config: SessionConfig
) -> None:
    """Answer a second of noise in a session of its own, in small chunks, and forget it.

    The first forward of a program pays for set-up that no later one pays.
    """
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    short = replace(config, schedule=Fixed(4), max_new_tokens=WARM_UP_TOKENS)
    for _ in SpeechSession(model, processor, short).ask(noise):
        pass


@contextmanager
def compiling() -> Generator[Callable[[int, int], None]]:
    """A progress bar, and what `compile_steps` tells its progress."""
    with tqdm(desc="compiling steps", unit="size") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
