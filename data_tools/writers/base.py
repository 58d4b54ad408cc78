"""Who writes the texts: an LLM behind a server, one in this process, or the built-in rules.

A `Writer` completes requests; `WRITERS` names the kinds that a command or recipe can ask for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from data_tools.steps import LeftOut
from data_tools.writers.spoken_text import full_sentences
from omni.files import UserError, appending, build_strictly, digest_of, read_lines

Task = Literal["rewrite", "respond"]


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """One text to write.

    key: names record and turn, for what is drawn. source: the written text that rules start from;
    None if there is none. messages: the chat that an LLM continues, the last one is the user's.
    """

    task: Task
    key: str
    language: str
    source: str | None
    messages: tuple[ChatMessage, ...]


Reply = str | LeftOut


def kept(text: str, task: Task, *, cut_off: bool) -> Reply:
    """What is kept of an LLM's reply.

    All of one that it ended itself. Of a response that was cut off at max_tokens: up to its last
    full sentence. None of a rewritten question, as a part of a question is another question.
    """
    if not text.strip():
        return LeftOut("the reply was empty")
    if not cut_off:
        return text
    remedy = "was cut off; allow it more max_tokens"
    if task != "respond":
        return LeftOut(f"the question {remedy}")
    if "<think>" in text and "</think>" not in text:
        return LeftOut(f"the reply's thinking {remedy}")
    whole = full_sentences(text.rpartition("</think>")[2])
    return whole or LeftOut(f"the reply's first sentence {remedy}")


class Writer(Protocol):
    """Completes requests; may work on several at a time."""

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(index of the request, reply), each as soon as it is there and in any order.

        A reply depends on its request alone. LeftOut if this request has none; ServiceError if
        none can be had as things are.
        """
        ...

    def close(self) -> None:
        """Lets go of connections or model."""
        ...


class WriterConfig(Protocol):
    """A kind of writer and its options: a frozen dataclass, so that it can travel elsewhere."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def batch_size(self) -> int:
        """Records worked on at a time."""
        ...

    @property
    def workers(self) -> int | None:
        """As a `Job`'s: 1 for a writer that itself works on a batch in parallel."""
        ...

    @property
    def device(self) -> str:
        """As a `Job`'s."""
        ...

    @property
    def label(self) -> str:
        """Short name for the provenance of what it wrote."""
        ...

    def settings(self) -> dict[str, Any]:
        """What the replies depend on, as JSON holds it."""
        ...

    def build(self) -> Writer:
        """A writer: it connects or loads now."""
        ...


def writer_config(kind: str = "rules", **options: Any) -> WriterConfig:
    """From a command or recipe. Raises UserError for an unknown kind or option."""
    if kind not in WRITERS:
        raise UserError(f"writer {kind!r}: must be one of {', '.join(WRITERS)}")
    return build_strictly(WRITERS[kind](), options, where=f"writer {kind}")


def rules() -> type[WriterConfig]:
    """Options of `RulesConfig`."""
    from data_tools.writers.rules import RulesConfig

    return RulesConfig


def openai() -> type[WriterConfig]:
    """Options of `EndpointConfig`; retry: those of `RetryConfig`."""
    from data_tools.writers.endpoint import EndpointConfig

    return EndpointConfig


def transformers() -> type[WriterConfig]:
    """Options of `LocalConfig`."""
    from data_tools.writers.local import LocalConfig

    return LocalConfig


WRITERS: dict[str, Callable[[], type[WriterConfig]]] = {
    "rules": rules,
    "openai": openai,
    "transformers": transformers,
}


class CachedWriter:
    """Asks the writer only for what no earlier run got, under any limit or rule of the step.

    Replies are appended to a file of JSON lines, each as it arrives, under the hash of the chat and
    of the writer's settings. Requests that have no reply are asked again.
    """

    def __init__(self, writer: Writer, settings: dict[str, Any], path: Path) -> None:
        self.writer = writer
        self.settings = settings
        self.path = path
        self.lock = threading.Lock()
        self.known = {row["key"]: row["reply"] for row in read_lines(path)}

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """As `Writer.complete`; equal chats are asked once."""
        waiting: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            key = chat_key(request, self.settings)
            if key in self.known:
                yield index, self.known[key]
            else:
                waiting.setdefault(key, []).append(index)
        keys = list(waiting)
        for number, reply in self.writer.complete([requests[waiting[key][0]] for key in keys]):
            if isinstance(reply, str):
                self.keep(keys[number], reply)
            for index in waiting[keys[number]]:
                yield index, reply

    def keep(self, key: str, reply: str) -> None:
        """Adds a reply to the file, in one write."""
        with self.lock:
            self.known[key] = reply
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with appending(self.path) as append:
                append([{"key": key, "reply": reply}])

    def close(self) -> None:
        """Closes the writer."""
        self.writer.close()


def chat_key(request: Request, settings: dict[str, Any]) -> str:
    """32 hex digits of the chat and the writer's settings."""
    chat = [asdict(message) for message in request.messages]
    return digest_of(settings, chat, length=32)
