"""Keys that open the door: those of the settings, and short-lived ones made from them."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PREFIX = "ek_"
SUBPROTOCOL = "realtime"
KEY_SUBPROTOCOL = "openai-insecure-api-key."  # how a browser gives a key: it can set no header
LONGEST = 7_000  # characters of a short-lived key; a line of a header may have 8192
SIGNATURE_BYTES = 32


@dataclass(frozen=True)
class Grant:
    """What a key allows. session: settings of a session that it brings. lasting: of the settings,
    not short-lived."""

    lasting: bool
    session: dict[str, Any] = field(default_factory=dict[str, Any])


class Keys:
    """Short-lived keys are kept nowhere: each carries its end and its session, and is signed.

    secret: what they are signed with; servers that share it know each other's. None: a new one.
    """

    def __init__(
        self,
        lasting: Sequence[str],
        *,
        secret: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._lasting = [key.encode() for key in lasting]
        self._secret = (secret or secrets.token_urlsafe()).encode()
        self._now = now

    def grant(self, headers: Mapping[str, str]) -> Grant | None:
        """What a request's headers allow; None: nothing."""
        key = _presented(headers)
        if key is not None and (session := self._read(key)) is not None:
            return Grant(lasting=False, session=session)
        if not self._lasting:
            return Grant(lasting=True)
        # Every key is compared, each in constant time: how long it takes tells nothing.
        matches = [hmac.compare_digest((key or "").encode(), known) for known in self._lasting]
        return Grant(lasting=True) if any(matches) else None

    def make(self, seconds: int, session: dict[str, Any]) -> tuple[str, int] | None:
        """A new short-lived key and when it ends (s since 1970); None where its session is too
        large to be carried by a header."""
        ends = self._now() + seconds
        carried = zlib.compress(json.dumps([ends, session]).encode())
        text = base64.urlsafe_b64encode(self._sign(carried) + carried).decode().rstrip("=")
        return None if len(text) > LONGEST else (PREFIX + text, int(ends))

    def _read(self, key: str) -> dict[str, Any] | None:
        """The session of a short-lived key; None where it is none of ours, or has ended."""
        if not key.startswith(PREFIX):
            return None
        text = key.removeprefix(PREFIX)
        try:
            read = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            return None
        signature, carried = read[:SIGNATURE_BYTES], read[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(carried)):
            return None
        ends, session = json.loads(zlib.decompress(carried))
        return session if ends > self._now() else None

    def _sign(self, carried: bytes) -> bytes:
        return hmac.digest(self._secret, carried, "sha256")


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
