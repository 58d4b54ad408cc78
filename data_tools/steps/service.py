"""Calls of a web service that may be busy, slow or broken: retried where waiting helps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

Answer = TypeVar("Answer")

WAIT_LIMIT_S = 60.0


class ServiceError(OSError):
    """The service can't be used as things are: a run ends here and may be started again later."""


class Retry(Exception):
    """This answer was no good, another attempt may be."""


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
    reason, wait_s = "", retry.first_wait_s
    for attempt in range(retry.attempts):
        if attempt:
            sleep(min(wait_s, WAIT_LIMIT_S))
            wait_s *= 2
        try:
            response = client.post(url, json=body, timeout=retry.timeout_s)
            if response.status_code == 200:
                return read(response)
        except (httpx.TransportError, Retry) as error:  # refused, timed out or torn
            reason = f"{type(error).__name__}: {error}"
            continue
        reason = f"status {response.status_code}: {' '.join(response.text.split())[:200]}"
        if response.status_code in (400, 413, 422):
            raise ValueError(f"{url}: {reason}")
        if response.status_code not in (408, 409, 425, 429) and response.status_code < 500:
            raise ServiceError(f"{url}: {reason}; check the address, the key and the model's name")
        wait_s = max(wait_s, retry_after(response))
    raise ServiceError(
        f"{url}: no good answer in {retry.attempts} attempts ({reason}); start the run again later"
    )


def retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait; 0 if it doesn't say."""
    try:
        return float(response.headers.get("retry-after", 0))
    except ValueError:
        return 0.0  # a date, which few servers send
