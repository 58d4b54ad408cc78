"""Sessions without a network and servers with one, for the tests of the realtime protocol."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any, get_args

import numpy as np
import soxr
import uvicorn
from fastapi import FastAPI
from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from websockets.sync.client import ClientConnection, connect

from omni.audio import SAMPLE_RATE
from omni.engine import Engine
from omni.session import SessionConfig
from omni.session.events import Done
from serve.realtime import Limits, Model
from serve.realtime.events import StageTimings
from serve.realtime.outbox import Outbox
from serve.realtime.talk import Talk
from tests.talk import SHORT, answer, session
from tests.tiny import question

WAIT_S = 60
ASKED, ALSO = "What is two and two?", "How warm is it?"
ANSWERED = [
    "response.created", "response.output_item.added", "conversation.item.added",
    "response.content_part.added",
]  # fmt: skip
ENDED = [
    "response.output_audio.done", "response.output_audio_transcript.done",
    "response.content_part.done", "response.output_item.done", "conversation.item.done",
    "response.done",
]  # fmt: skip
# The official client's own types, by the event's name.
OFFICIAL = {
    get_args(kind.model_fields["type"].annotation)[0]: kind
    for kind in get_args(get_args(RealtimeServerEvent)[0])
}
OURS = {"omni.timings": StageTimings}  # only where a session asks for it
Event = dict[str, Any]


def checked(text: str) -> Event:
    """An event that the server sent, which the official client's type takes; or one of ours."""
    event = json.loads(text)
    (OFFICIAL | OURS)[event["type"]].model_validate(event)
    return event


def loud(frame: np.ndarray) -> float:
    """A voice detector that knows loud from quiet: fast and certain."""
    return float(np.abs(frame).max() > 0.01)


def model_info(base: SessionConfig, **others: Any) -> Model:
    """What sessions over the tiny model have to know of it."""
    values: dict[str, Any] = {
        "name": "tiny",
        "base": base,
        "takes_system": False,
        "takes_tools": False,
        "longest_s": 10.0,
        "control_token_in": lambda text: "<speech>" if "<speech>" in text else None,
    }
    return Model(**values | others)


class Desk:
    """A session with all but a network: send events, take what comes of them."""

    def __init__(
        self, engine: Engine, base: SessionConfig, *, limits: Limits | None = None, **model: Any
    ) -> None:
        limits = limits or Limits()
        self.engine = engine.open(base)
        self._posted: Queue[Callable[[], None]] = Queue()
        self.outbox = Outbox(
            1e3 * limits.unsent_audio_s, full=self.engine.pause, ready=self.engine.resume
        )
        self.talk = Talk(
            model_info(base, **model), self.engine, self.outbox, limits,
            make_voice=lambda: loud, post=self._posted.put,
            in_background=lambda work: threading.Thread(target=work).start(),
        )  # fmt: skip
        self.talk.open()
        self.depth = limits.json_depth
        self.events()

    def handle(self, text: str) -> None:
        """One message, whatever it is; the client takes nothing."""
        for _ in self.talk.handle(text, self.depth):
            pass

    def send(self, type: str, **fields: Any) -> list[Event]:
        """One event; what is told at once."""
        self.handle(json.dumps({"type": type, **fields}))
        return self.events()

    def update(self, **session: Any) -> Event:
        """Change the session; the session as it is told then."""
        (event,) = self.send("session.update", session={"type": "realtime", **session})
        return event

    def manual(self) -> "Desk":
        """Turns end when the client says so."""
        self.update(audio={"input": {"turn_detection": None}})
        return self

    def say(self, sound: np.ndarray, piece: int = 960) -> list[Event]:
        """Sound of [n] float32 at 16 kHz, in pieces of the wire's samples."""
        data = pcm(sound)
        told = []
        for start in range(0, len(data), 2 * piece):
            audio = base64.b64encode(data[start : start + 2 * piece]).decode()
            told += self.send("input_audio_buffer.append", audio=audio)
        return told

    def write(self, text: str, **fields: Any) -> list[Event]:
        """A question in writing."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        return self.send("conversation.item.create", item=item, **fields)

    def write_unread(self, text: str) -> None:
        """A question in writing and its answer, while the client takes nothing."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        self.handle(json.dumps({"type": "conversation.item.create", "item": item}))
        self.handle('{"type": "response.create"}')

    def events(self) -> list[Event]:
        """What waits to be sent, each as the official client takes it."""
        found = []
        while len(self.outbox):
            coroutine = self.outbox.next()
            try:
                coroutine.send(None)
            except StopIteration as done:
                found.append(checked(done.value.as_text()))
        return found

    def pump(self, wait_s: float = WAIT_S) -> None:
        """Do the next thing that the engine posts. Raises Empty if it posts nothing."""
        self._posted.get(timeout=wait_s)()

    def until(self, type: str) -> list[Event]:
        """All events up to the first of that type."""
        found = self.events()
        while not any(event["type"] == type for event in found):
            self.pump()
            found += self.events()
        return found

    def settle(self) -> list[Event]:
        """What still comes, if nothing else is asked."""
        time.sleep(0.2)
        while True:
            try:
                self._posted.get(timeout=0.2)()
            except Empty:
                return self.events()

    def answer(self, **response: Any) -> list[Event]:
        """Ask for a response and take all of it."""
        told = self.send("response.create", response=response)
        return told if of(told, "response.done") else [*told, *self.until("response.done")]


def types(events: list[Event]) -> list[str]:
    """Names, repeated deltas once."""
    names = [event["type"] for event in events]
    return [name for place, name in enumerate(names) if not place or name != names[place - 1]]


def deltas_left_out(events: list[Event]) -> list[str]:
    """Names of all other events."""
    return [name for name in types(events) if not name.endswith(".delta")]


def alone(asked: np.ndarray | str, config: SessionConfig = SHORT) -> Done:
    """What a session of its own answers."""
    return answer(session(config), asked)[1]


def spoken_turn(seed: int = 0) -> np.ndarray:
    """A question with silence on both sides, by which its end is heard."""
    return np.concatenate([silence(0.5), question(seed=seed), silence(0.7)])


def of(events: list[Event], type: str) -> list[Event]:
    """Those of one type."""
    return [event for event in events if event["type"] == type]


def only(events: list[Event], type: str) -> Event:
    """The one of that type."""
    (event,) = of(events, type)
    return event


def transcript(events: list[Event]) -> str:
    """What the deltas of a transcript spell."""
    return "".join(e["delta"] for e in of(events, "response.output_audio_transcript.delta"))


def sound(events: list[Event]) -> bytes:
    """What the deltas of sound hold."""
    deltas = of(events, "response.output_audio.delta")
    return b"".join(base64.b64decode(event["delta"]) for event in deltas)


def pcm(samples: np.ndarray) -> bytes:
    """[n] float32 at 16 kHz -> 16-bit at 24 kHz."""
    wire = soxr.resample(samples, SAMPLE_RATE, 24_000)
    return (np.clip(wire, -1, 1) * 32_767).astype("<i2").tobytes()


def silence(seconds: float) -> np.ndarray:
    """[n] float32 at 16 kHz."""
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


@contextmanager
def served(app: FastAPI, *, port: int = 0, **options: Any) -> Iterator[int]:
    """A real server in a thread; its port. port: 0 takes a free one."""
    options = {"ws": "websockets-sansio", "ws_max_size": 32 << 20} | options
    config = uvicorn.Config(app, port=port, log_level="error", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        ends = time.monotonic() + WAIT_S
        while not server.started and time.monotonic() < ends:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(WAIT_S)


class Client:
    """A plain client of a real server."""

    def __init__(self, port: int, **options: Any) -> None:
        self.socket: ClientConnection = connect(
            f"ws://127.0.0.1:{port}/v1/realtime?model=any", max_size=None, **options
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, type: str, **fields: Any) -> None:
        """One event."""
        self.socket.send(json.dumps({"type": type, **fields}))

    def say(self, samples: np.ndarray) -> None:
        """Sound of [n] float32 at 16 kHz, 20 ms at a time."""
        data = pcm(samples)
        for start in range(0, len(data), 960):
            audio = base64.b64encode(data[start : start + 960]).decode()
            self.send("input_audio_buffer.append", audio=audio)

    def next(self) -> Event:
        """The next event."""
        return checked(str(self.socket.recv(timeout=WAIT_S)))

    def until(self, type: str) -> list[Event]:
        """All events up to the first of that type."""
        found = [self.next()]
        while found[-1]["type"] != type:
            found.append(self.next())
        return found
