"""One of several servers: it serves what the supervisor hands it."""

# Heavy imports stand inside: the supervisor imports this file, and needs no torch.
from __future__ import annotations

import os
import socket
from dataclasses import replace
from multiprocessing.context import SpawnContext, SpawnProcess

from omni.files import ending_well
from serve.router.handing import Handed
from serve.web import ServeSettings


def begin(
    processes: SpawnContext, settings: ServeSettings, number: int, pipe: socket.socket, port: int
) -> SpawnProcess:
    """Start one; see serve_what_is_handed."""
    process = processes.Process(
        target=serve_what_is_handed, name=f"omni-replica-{number}",
        args=(settings, number, pipe, port),
    )  # fmt: skip
    process.start()
    return process


def serve_what_is_handed(
    settings: ServeSettings, number: int, pipe: socket.socket, port: int
) -> None:
    """A process's whole life. number: its place among the replicas, from 0. pipe: to the
    supervisor. port: that clients know.
    """
    # A terminal's Ctrl-C is for the supervisor, which then ends us: once, not twice.
    os.setpgrp()
    with ending_well():
        import torch

        from serve.web import describe, load, serve

        torch.set_num_threads(max(1, torch.get_num_threads() // settings.replicas))
        device = device_of(settings.device, number, torch.cuda.device_count())
        settings = replace(settings, device=device)
        engine, known = load(settings)
        with engine:
            told = describe(settings, known, port)
            serve(settings, engine, known, Handed(pipe, told))


def device_of(device: str, number: int, gpus: int) -> str:
    """Where replica `number` runs: several GPUs are dealt out in turn."""
    if device in ("auto", "cuda") and gpus > 1:
        return f"cuda:{number % gpus}"
    return device
