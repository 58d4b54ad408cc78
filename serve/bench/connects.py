"""`omni-serve bench connects`: clients come and go, and the server's memory does not grow."""

# Heavy imports stand inside the functions: `omni-serve --help` must not wait for torch.
from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni.files import need
from serve.bench.metrics_page import MEMORY, metrics_at

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

GREW = 1  # exit code; 2 is bad input
ANSWER_S = 60.0
ASKS_EVERY = 20  # who also asks a question, and leaves during the answer
SOUND_BYTES = 9_600  # 0.2 s
WARM_UP_SHARE = 0.2  # of the connects: threads, arenas and caches have found their size then


@dataclass(frozen=True)
class Grown:
    """The server's memory (bytes) after the first fifth of the connects, and after all."""

    before: float
    after: float

    @property
    def share(self) -> float:
        """By which it has grown."""
        return self.after / self.before - 1


def come_and_go(
    connect: Callable[[], ClientConnection],
    memory: Callable[[], float],
    count: int,
    *,
    progress: Callable[[], object] = lambda: None,
) -> Grown:
    """So many clients, one after the other. memory: the server's, in bytes."""
    sound = base64.b64encode(random.Random(0).randbytes(SOUND_BYTES)).decode()
    before = memory()
    for number in range(count):
        if number == round(WARM_UP_SHARE * count):
            before = memory()
        with closing(connect()) as socket:
            _send(socket, "input_audio_buffer.append", audio=sound)
            _send(socket, "input_audio_buffer.clear")
            _await(socket, "input_audio_buffer.cleared")
            if number % ASKS_EVERY == 0:
                part = {"type": "input_text", "text": "What is the capital of France?"}
                item = {"type": "message", "role": "user", "content": [part]}
                _send(socket, "conversation.item.create", item=item)
                _send(socket, "response.create")
                _await(socket, "response.output_audio.delta")
        progress()
    return Grown(before, memory())


def _send(socket: ClientConnection, type: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": type, **fields}))


def _await(socket: ClientConnection, type: str) -> None:
    while json.loads(socket.recv(timeout=ANSWER_S))["type"] != type:
        pass


def memory_at(address: str, api_key: str | None) -> Callable[[], float]:
    """Asks the /metrics of the server whose WebSocket is at this address."""
    read = metrics_at(address, api_key)
    return lambda: read(MEMORY)[0]


def connects_command(
    address: Annotated[
        str, typer.Argument(help="Of a running server, as ws://127.0.0.1:8000/v1/realtime.")
    ] = "ws://127.0.0.1:8000/v1/realtime",
    count: Annotated[int, typer.Option("--connects", min=5, help="How many clients.")] = 10_000,
    most: Annotated[
        float, typer.Option(help="Percent by which the server's memory may grow.")
    ] = 2.0,
    api_key: Annotated[str | None, typer.Option(envvar="OMNI_API_KEY")] = None,
) -> None:
    """Connect, say something and leave, again and again; exit code 1 if memory grows too much.

    The first fifth is not counted. Every twentieth client leaves in the middle of an answer.
    """
    need("websockets", "serve", "the bench of connections")
    from tqdm import tqdm

    from serve.bench.sockets import opener

    with tqdm(total=count, unit="connect") as bar:
        found = come_and_go(
            opener(address, api_key), memory_at(address, api_key), count, progress=bar.update
        )
    typer.echo(
        f"{count} connects: {found.before / 2**20:.1f} MiB after a fifth, "
        f"{found.after / 2**20:.1f} MiB after all, {found.share:+.2%}"
    )
    if 100 * found.share > most:
        raise typer.Exit(GREW)
