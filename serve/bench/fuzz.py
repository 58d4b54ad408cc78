"""`omni-serve bench fuzz`: whatever a client sends, the session goes on.

Seeded: the same seed sends the same messages. Most are almost right, for these get furthest.
"""

# Heavy imports stand inside the functions: `omni-serve --help` must not wait for torch.
from __future__ import annotations

import base64
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni.files import need

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

LOST = 1  # exit code; 2 is bad input
ANSWER_S = 30.0  # in which a session must answer that it is there
ASK_EVERY = 50  # messages
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1.5, "", "x" * 5_000, "\x00", "\N{PILE OF POO}", [], {}, [[[]]],
    {"type": None}, "audio/pcm", "root", "inf",
)  # fmt: skip


def audio(rng: random.Random) -> str:
    """Noise, silence, or what is no sound."""
    length = rng.choice((0, 1, 2, 960, 4_800, 9_600))
    data = rng.choice((rng.randbytes(length), bytes(length)))
    text = base64.b64encode(data).decode()
    return text if rng.random() < 0.9 else text[:-1] + "?"


def item(rng: random.Random) -> dict[str, Any]:
    """An item, or almost one."""
    part = rng.choice(
        (
            {"type": "input_text", "text": "What is the capital of France?"},
            {"type": "input_audio", "audio": audio(rng)},
            {"type": "output_text", "text": "Paris."},
            {"type": "input_image"},
        )
    )
    message = {"role": rng.choice(("user", "user", "assistant", "system")), "content": [part]}
    return rng.choice(
        (
            {"type": "message", **message},
            {"type": "message", "id": rng.choice("abc"), **message},
            {"type": "function_call", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
        )
    )


def session(rng: random.Random) -> dict[str, Any]:
    """Settings, or almost."""
    detection = rng.choice(
        (None, {"type": "server_vad", "silence_duration_ms": 100}, {"type": "semantic_vad"})
    )
    form = {"type": rng.choice(("audio/pcm", "audio/pcmu", "audio/pcma", "audio/none"))}
    return {
        "type": "realtime",
        "output_modalities": rng.choice((["text"], ["audio"], ["text", "audio"])),
        "max_output_tokens": rng.choice((1, 4, "inf", 0)),
        "audio": {"input": {"turn_detection": detection, "format": form}},
    }


EVENTS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "session.update": lambda rng: {"session": session(rng)},
    "input_audio_buffer.append": lambda rng: {"audio": audio(rng)},
    "input_audio_buffer.commit": lambda rng: {},
    "input_audio_buffer.clear": lambda rng: {},
    "output_audio_buffer.clear": lambda rng: {},
    "conversation.item.create": lambda rng: {
        "item": item(rng), "previous_item_id": rng.choice((None, "root", "a", "b", "zzz")),
    },
    "conversation.item.retrieve": lambda rng: {"item_id": rng.choice("abcd")},
    "conversation.item.truncate": lambda rng: {
        "item_id": rng.choice("abcd"), "content_index": rng.choice((0, 1)),
        "audio_end_ms": rng.choice((0, 500, 10**9)),
    },
    "conversation.item.delete": lambda rng: {"item_id": rng.choice("abcd")},
    "response.create": lambda rng: {"response": {"max_output_tokens": rng.choice((1, 2))}},
    "response.cancel": lambda rng: {},
}  # fmt: skip
NAMES = [*EVENTS, *["input_audio_buffer.append"] * 10]


def messages(seed: int) -> Iterator[str | bytes]:
    """Messages without end; the same for the same seed."""
    rng = random.Random(seed)
    while True:
        name = rng.choice(NAMES)
        event: Any = {"type": name, "event_id": rng.choice((None, "mine")), **EVENTS[name](rng)}
        chance = rng.random()
        if chance < 0.25:
            _spoil(event, rng)
        text = json.dumps(event)
        if 0.25 <= chance < 0.3:
            place = rng.randrange(len(text))
            text = text[:place] + rng.choice(("", '"', "{", "[" * 50, "\\u")) + text[place + 1 :]
        elif chance > 0.98:
            yield rng.randbytes(rng.randrange(200))
            continue
        yield text


def _spoil(value: Any, rng: random.Random) -> None:
    """Put something strange in one place of an object, however deep."""
    key = rng.choice([*value, "unknown"])
    inner = value.get(key)
    if isinstance(inner, list) and inner and isinstance(inner[0], dict):
        inner = inner[0]
    if isinstance(inner, dict) and inner and rng.random() < 0.7:
        _spoil(inner, rng)
    else:
        value[key] = rng.choice(STRANGE)


@dataclass
class Fuzzed:
    """What came of it. lost: after which message a session no longer answered, and why."""

    sent: int = 0
    events: Counter[str] = field(default_factory=Counter[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    lost: list[str] = field(default_factory=list[str])


def fuzz(
    connect: Callable[[], ClientConnection],
    count: int,
    seed: int,
    *,
    check: Callable[[str], object] = lambda text: None,
    progress: Callable[[int], object] = lambda done: None,
) -> Fuzzed:
    """Send so many messages; a session that is lost is noted, and another one opened.

    check: is given every event that the server sends, and raises for one that can't be.
    """
    found = Fuzzed()
    source = messages(seed)
    while found.sent < count and len(found.lost) < 10:
        socket = connect()
        try:
            while found.sent < count:
                for _ in range(min(ASK_EVERY, count - found.sent)):
                    socket.send(next(source))
                    found.sent += 1
                _wait_for_answer(socket, found, check)
                progress(found.sent)
        except (OSError, EOFError, TimeoutError, _closed()) as error:
            found.lost.append(f"after message {found.sent} of seed {seed}: {error!r}")
        finally:
            socket.close()
    return found


def _closed() -> type[Exception]:
    from websockets.exceptions import ConnectionClosed

    return ConnectionClosed


def _wait_for_answer(
    socket: ClientConnection, found: Fuzzed, check: Callable[[str], object]
) -> None:
    """Read until the session has answered a message that every session answers."""
    mark = f"mark-{found.sent}"
    ask = {"type": "conversation.item.retrieve", "event_id": mark, "item_id": "no-such-item"}
    socket.send(json.dumps(ask))
    while True:
        text = str(socket.recv(timeout=ANSWER_S))
        check(text)
        event = json.loads(text)
        found.events[event["type"]] += 1
        if event["type"] == "error":
            found.errors[event["error"]["code"]] += 1
            if event["error"]["event_id"] == mark:
                return


def fuzz_command(
    address: Annotated[
        str, typer.Argument(help="Of a running server, as ws://127.0.0.1:8000/v1/realtime.")
    ] = "ws://127.0.0.1:8000/v1/realtime",
    count: Annotated[int, typer.Option("--messages", min=1, help="How many to send.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed sends the same messages.")] = 0,
    api_key: Annotated[str | None, typer.Option(envvar="OMNI_API_KEY")] = None,
) -> None:
    """Send messages that are wrong in many ways; exit code 1 if a session is lost.

    The server reads 200 messages a second where its limits.messages_per_s says no more.
    """
    need("websockets", "serve", "the bench of messages")
    from tqdm import tqdm

    from serve.bench.sockets import opener

    with tqdm(total=count, unit="message") as bar:
        connect = opener(address, api_key)
        found = fuzz(connect, count, seed, progress=lambda done: bar.update(done - bar.n))
    typer.echo(f"{found.sent} messages, seed {seed}: {sum(found.events.values())} events")
    for code, times in found.errors.most_common():
        typer.echo(f"  {times} x {code}")
    for lost in found.lost:
        typer.echo(f"session lost {lost}")
    if found.lost:
        raise typer.Exit(LOST)
