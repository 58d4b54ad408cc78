"""Keys that open the door: those of the settings, and short-lived ones made from them."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PREFIX = "ek_"
SUBPROTOCOL = "realtime"
KEY_SUBPROTOCOL = "openai-insecure-api-key."  # how a browser gives a key: it can set no header
MOST = 10_000  # short-lived keys at a time


@dataclass(frozen=True)
class Grant:
    """What a key allows. session: settings of a session that it brings. lasting: of the settings,
    not short-lived."""

    lasting: bool
    session: dict[str, Any] = field(default_factory=dict[str, Any])


class Keys:
    """Only digests of short-lived keys are kept, in an SQLite database: replicas share its file."""

    def __init__(
        self,
        lasting: Sequence[str],
        *,
        now: Callable[[], float] = time.time,
        database: str = ":memory:",
    ) -> None:
        self._lasting = [key.encode() for key in lasting]
        self._now = now
        self._lock = threading.Lock()  # requests are answered in several threads
        self._short = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
        self._short.executescript(
            "CREATE TABLE IF NOT EXISTS keys (digest BLOB PRIMARY KEY, ends REAL, session TEXT);"
            "CREATE INDEX IF NOT EXISTS soonest ON keys (ends)"
        )

    def grant(self, headers: Mapping[str, str]) -> Grant | None:
        """What a request's headers allow; None: nothing."""
        key = _presented(headers)
        if key is not None and key.startswith(PREFIX):
            found = self._ask("SELECT session FROM keys WHERE digest = ?", _digest(key))
            if found is not None:
                return Grant(lasting=False, session=json.loads(found))
        if not self._lasting:
            return Grant(lasting=True)
        # Every key is compared, each in constant time: how long it takes tells nothing.
        matches = [hmac.compare_digest((key or "").encode(), known) for known in self._lasting]
        return Grant(lasting=True) if any(matches) else None

    def make(self, seconds: int, session: dict[str, Any]) -> tuple[str, int] | None:
        """A new short-lived key and when it ends (s since 1970); None where too many live."""
        if self._ask("SELECT COUNT(*) FROM keys") >= MOST:
            return None
        key = PREFIX + secrets.token_urlsafe(32)
        ends = self._now() + seconds
        row = _digest(key), ends, json.dumps(session)
        self._ask("INSERT INTO keys VALUES (?, ?, ?)", *row)
        return key, int(ends)

    def _ask(self, statement: str, *values: Any) -> Any:
        """The first value of the first row, None if there is none; what is old is gone before."""
        with self._lock:
            self._short.execute("DELETE FROM keys WHERE ends <= ?", (self._now(),))
            row = self._short.execute(statement, values).fetchone()
        return None if row is None else row[0]


def offers_subprotocol(headers: Mapping[str, str]) -> bool:
    """Whether the client wants the name of our subprotocol back."""
    return SUBPROTOCOL in _subprotocols(headers)


def _subprotocols(headers: Mapping[str, str]) -> list[str]:
    return [one.strip() for one in headers.get("sec-websocket-protocol", "").split(",")]


def _presented(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    named = (one for one in _subprotocols(headers) if one.startswith(KEY_SUBPROTOCOL))
    return next((one.removeprefix(KEY_SUBPROTOCOL) for one in named), None)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
