"""An LLM behind OpenAI's chat endpoint, which vLLM, Ollama, llama.cpp and many services offer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import httpx

from data_tools.steps import LeftOut, Retry, RetryConfig, post
from data_tools.writers.base import Reply, Request, Task, Writer, chat_key, kept
from omni.files import UserError


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """url: up to and with /v1. concurrency: calls in flight. requests_per_minute: attempts in all,
    None for no limit. max_tokens: a reply that needs more is cut off there, see `llm.kept`. extra:
    further fields of the request; a null one is taken out of it. api_key_env: the variable that
    holds the key.
    """

    model: str
    url: str = "http://localhost:8000/v1"
    temperature: float = 0.7
    max_tokens: int = 512
    concurrency: int = 16
    requests_per_minute: float | None = None
    api_key_env: str = "OPENAI_API_KEY"
    extra: dict[str, Any] = field(default_factory=dict)
    retry: RetryConfig = field(default_factory=RetryConfig)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise UserError(f"concurrency={self.concurrency}: must be at least 1")
        if self.requests_per_minute is not None and self.requests_per_minute <= 0:
            raise UserError(f"requests_per_minute={self.requests_per_minute}: must be above 0")

    @property
    def workers(self) -> int | None:
        """One, which has `concurrency` calls going."""
        return 1

    @property
    def device(self) -> str:
        """The CPU here: the server computes."""
        return "cpu"

    @property
    def batch_size(self) -> int:
        """So many that the slowest call is waited for only once in a while."""
        return 8 * self.concurrency  # waits for its slowest call only once in a while

    @property
    def label(self) -> str:
        """openai and the model."""
        return f"openai {self.model}"

    def settings(self) -> dict[str, Any]:
        """Model and sampling; not where the server is, nor how fast it is asked."""
        values = asdict(self)
        for name in ("url", "concurrency", "requests_per_minute", "api_key_env", "retry"):
            del values[name]
        return {"writer": "openai", **values}

    def build(self) -> Writer:
        """A pool of connections; the server is asked with the first request."""
        return EndpointWriter(self)


class EndpointWriter:
    """Many calls at a time over one pool of connections."""

    def __init__(
        self,
        config: EndpointConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        key = os.environ.get(config.api_key_env)
        self.config = config
        self.sleep = sleep
        self.pace = Pace(config.requests_per_minute, clock=clock, sleep=sleep)
        self.client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            # As a hook of the client it counts repeated attempts too.
            event_hooks={"request": [lambda _: self.pace.wait()]},
            limits=httpx.Limits(max_connections=config.concurrency),
        )

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """As `Writer.complete`, with `concurrency` calls at a time."""
        failed = threading.Event()  # nobody else will fare better; what is in flight may

        def call(request: Request) -> Reply | OSError | None:
            if failed.is_set():
                return None
            try:
                return self.ask(request)
            except OSError as error:
                failed.set()
                return error

        pool = ThreadPoolExecutor(self.config.concurrency)
        try:
            calls = {pool.submit(call, request): n for n, request in enumerate(requests)}
            failures = []
            for done in as_completed(calls):
                result = done.result()
                if isinstance(result, OSError):
                    failures.append(result)
                elif result is not None:
                    yield calls[done], result
        finally:
            pool.shutdown(cancel_futures=True)
        if failures:
            raise failures[0]

    def ask(self, request: Request) -> Reply:
        """One call, tried again as `retry` says; LeftOut if the server refuses this chat."""
        config = self.config
        body: dict[str, Any] = {
            "model": config.model,
            "messages": [asdict(message) for message in request.messages],
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
            # The chat decides what is drawn, on servers that keep to a seed.
            "seed": int(chat_key(request, config.settings())[:7], 16),
            **config.extra,
        }
        body = {name: value for name, value in body.items() if value is not None}
        url = config.url.rstrip("/") + "/chat/completions"
        try:
            read = partial(reply_of, task=request.task)
            return post(self.client, url, body, read, retry=config.retry, sleep=self.sleep)
        except ValueError as error:  # refused for what it says, such as a text beyond the context
            return LeftOut(str(error))

    def close(self) -> None:
        """Closes the connections."""
        self.client.close()


def reply_of(response: httpx.Response, *, task: Task) -> Reply:
    """What is kept of an answer. Raises Retry for anything that is no chat completion."""
    try:
        choice = response.json()["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Retry(f"no chat completion ({error!r}): {response.text[:100]!r}") from None
    if reason == "content_filter":
        return LeftOut("the server's content filter withheld the reply")
    return kept(text if isinstance(text, str) else "", task, cut_off=reason == "length")


class Pace:
    """Spaces calls evenly, however many threads make them."""

    def __init__(
        self,
        per_minute: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.gap_s = 60.0 / per_minute if per_minute else 0.0
        self.clock, self.sleep = clock, sleep
        self.lock = threading.Lock()
        self.next_at = 0.0

    def wait(self) -> None:
        """Returns when the next call may go out."""
        with self.lock:
            now = self.clock()
            at = max(now, self.next_at)
            self.next_at = at + self.gap_s
        if at > now:
            self.sleep(at - now)
