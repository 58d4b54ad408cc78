"""From settings to a server that runs: the model, its engine, the socket."""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from omni.commands import (
    compiling,
    settle_threads,
    start,
    warm_up,
    without_garbage_collection,
)
from omni.engine import Engine
from omni.files import UserError
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.prompt import control_token_in
from omni.session import SessionConfig
from serve.realtime import STARTS, Model, Recogniser, silero
from serve.web.app import create_app
from serve.web.draining import Draining
from serve.web.server import Server, Source
from serve.web.settings import ServeSettings
from serve.web.sockets import SessionSocket

# Above every limit that can be set: what is too large is told, and the connection stays.
LARGEST_MESSAGE = 32 << 20
PING_S, PONG_S = 10.0, 20.0
# What uvicorn logs as an error after each client that was refused by an answer over HTTP.
REFUSED = "ASGI callable returned without completing handshake."


class EngineFailed(RuntimeError):
    """The model's thread has ended, which it never should."""


def model_of(
    settings: ServeSettings, model: OmniForConditionalGeneration, processor: OmniProcessor
) -> Model:
    """What sessions have to know of a model."""
    auto = bool(processor.config.prompt_config.system)
    told = {"auto": auto, "always": True, "never": False}[settings.instructions]
    return Model(
        # "." and "folder/.." have names, too; a link keeps its own.
        name=os.path.basename(os.path.abspath(settings.checkpoint or "nano")),
        base=SessionConfig.from_model(model),
        takes_system=told,
        longest_s=processor.max_seconds,
        takes_tools="tools" in str(processor.chat_template),
        control_token_in=lambda text: control_token_in(text, processor.tokenizer),
        recogniser=None if settings.recogniser is None else find_recogniser(settings.recogniser),
    )


def find_recogniser(name: str) -> Recogniser:
    """The function of "module:function". Raises UserError if there is none."""
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), function, None)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"recogniser={name!r}: {error}; give module:function, of a module that is installed or "
            "in a folder of PYTHONPATH"
        ) from None
    if not callable(found):
        raise UserError(f"recogniser={name!r}: no such function; give module:function")
    return cast("Recogniser", found)


def describe(settings: ServeSettings, model: Model, port: int) -> list[str]:
    """What start-up tells: what is served, where, for whom, within which limits."""
    scheme = "wss" if settings.ssl_certificate else "ws"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    keys = len(settings.api_keys)
    door = f"{keys} API key{'s' * (keys > 1)}" if keys else "no API key needed"
    told = "told to the model" if model.takes_system else "not told to the model"
    limits = ", ".join(f"{name}={value:g}" for name, value in vars(settings.limits).items())
    replicas = f" in each of {settings.replicas} replicas" if settings.replicas > 1 else ""
    return [
        f"model: {model.name}, instructions {told}, "
        f"{'tools' if model.takes_tools else 'no tools'}, questions up to {model.longest_s:g} s",
        f"address: {scheme}://{host}:{port}/v1/realtime, "
        f"{scheme.replace('ws', 'http')}://{host}:{port}/v1/chat/completions; {door}",
        f"limits: max_sessions={settings.max_sessions}{replicas}, {limits}",
    ]


def load(settings: ServeSettings) -> tuple[Engine, Model]:
    """The model, warm, in an engine that runs, and what sessions have to know of it."""
    if settings.recogniser is not None:
        find_recogniser(settings.recogniser)  # before the long loading
    with without_garbage_collection():
        model, processor = start(
            settings.checkpoint, threads=settings.threads, device=settings.device,
            dtype=settings.dtype,
        )  # fmt: skip
    known = model_of(settings, model, processor)
    if settings.threads is None:
        settle_threads(model, processor, known.base)
    warm_up(model, processor, known.base)
    silero()
    engine = Engine(model, processor, max_sessions=settings.max_sessions)
    if settings.compile:
        with compiling() as progress:
            engine.compile(progress)
    return engine, known


class _Config(uvicorn.Config):
    """uvicorn's, whose TLS hands out no session tickets.

    They arrive behind the handshake, just when a client writes its first request. One that reads
    and writes in two threads (Python's `websockets.sync`, and openai's `OpenAI().realtime` on it)
    may lose that request, and waits for the answer in vain: an SSLSocket bears no two threads.
    """

    def load(self) -> None:
        super().load()
        if self.ssl is not None:
            self.ssl.num_tickets = 0


def configuration(settings: ServeSettings, app: FastAPI) -> uvicorn.Config:
    """How uvicorn serves whatever stands at an address of ours."""
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != REFUSED)
    return _Config(
        app, log_config=None, log_level="warning", access_log=False,
        ws=SessionSocket, ws_max_size=LARGEST_MESSAGE, ws_per_message_deflate=False,
        ws_ping_interval=PING_S, ws_ping_timeout=PONG_S, server_header=False,
        ssl_certfile=settings.ssl_certificate, ssl_keyfile=settings.ssl_key,
        timeout_graceful_shutdown=5,
    )  # fmt: skip


def serve(
    settings: ServeSettings,
    engine: Engine,
    model: Model,
    door: socket.socket | Source,
    *,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve until a signal ends it; see Server. door: where clients connect, or where connections
    come from that another process accepts.

    Raises EngineFailed if the model's thread ends.
    """
    draining = Draining()
    app = create_app(settings, engine, model, draining=draining)
    config = configuration(settings, app)
    sockets, source = ([door], None) if isinstance(door, socket.socket) else ([], door)
    server = Server(
        config, draining, drain_s=settings.drain_s, alive=engine.alive, started=started,
        source=source,
    )  # fmt: skip
    STARTS.inc()
    server.run(sockets=sockets)
    if server.failed:
        raise EngineFailed("engine: its thread has ended; see the log")
