"""Calls of a web service that may be busy, slow or broken: retried where waiting helps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import tenacity

Answer = TypeVar("Answer")

WAIT_LIMIT_S = 60.0


class ServiceError(OSError):
    """The service can't be used as things are: a run ends here and may be started again later."""


class Retry(Exception):
    """This answer was no good, another attempt may be."""


class Busy(Retry):
    """wait_s: what the server asks to wait; 0 if it doesn't say."""

    def __init__(self, reason: str, wait_s: float) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """attempts: calls in all. first_wait_s: doubled after each, unless the server says how long.
    timeout_s: of one call."""

    attempts: int = 6
    first_wait_s: float = 1.0
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts={self.attempts}: must be at least 1; 1 never retries")


def post(
    client: httpx.Client,
    url: str,
    body: dict[str, Any],
    read: Callable[[httpx.Response], Answer],
    *,
    retry: RetryConfig,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """Posts JSON until `read` accepts the answer.

    read: takes an answer of status 200; raises `Retry` for one that is torn or no answer at all.
    Raises ServiceError if the attempts are used up or the server refuses the caller, and
    ValueError if it refuses this body (status 400, 413 or 422).
    """
    attempts = tenacity.Retrying(
        sleep=sleep,
        stop=tenacity.stop_after_attempt(retry.attempts),
        wait=lambda state: min(
            max(retry.first_wait_s * 2 ** (state.attempt_number - 1), asked_wait_s(state)),
            WAIT_LIMIT_S,
        ),
        retry=tenacity.retry_if_exception_type((httpx.TransportError, Retry)),
    )
    try:
        return attempts(call, client, url, body, read, retry.timeout_s)
    except tenacity.RetryError as error:
        last = error.last_attempt.exception()
        reason = str(last) if isinstance(last, Busy) else f"{type(last).__name__}: {last}"
        raise ServiceError(
            f"{url}: no good answer in {retry.attempts} attempts ({reason}); start the run again "
            "later"
        ) from None


def call(
    client: httpx.Client,
    url: str,
    body: dict[str, Any],
    read: Callable[[httpx.Response], Answer],
    timeout_s: float,
) -> Answer:
    """One attempt. Raises `Retry` or httpx.TransportError where another may do better."""
    response = client.post(url, json=body, timeout=timeout_s)
    if response.status_code == 200:
        return read(response)
    reason = f"status {response.status_code}: {' '.join(response.text.split())[:200]}"
    if response.status_code in (400, 413, 422):
        raise ValueError(f"{url}: {reason}")
    if response.status_code not in (408, 409, 425, 429) and response.status_code < 500:
        raise ServiceError(f"{url}: {reason}; check the address, the key and the model's name")
    raise Busy(reason, retry_after(response))


def asked_wait_s(state: tenacity.RetryCallState) -> float:
    """What the server asked for in the attempt that has just failed."""
    error = state.outcome and state.outcome.exception()
    return error.wait_s if isinstance(error, Busy) else 0.0


def retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait; 0 if it doesn't say."""
    try:
        return float(response.headers.get("retry-after", 0))
    except ValueError:
        return 0.0  # a date, which few servers send
