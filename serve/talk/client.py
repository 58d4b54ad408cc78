"""A client of the Realtime protocol, as far as talking needs it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import soxr

from omni.audio import SAMPLE_RATE
from omni.files import UserError

WIRE_RATE = 24_000  # Hz; 16-bit, mono
OPEN_S = 10.0
Event = dict[str, Any]
REFUSED = {
    401: "the server wants a key, and not this one; give --key or OMNI_API_KEY",
    403: "the server does not answer to this name; see allowed_hosts in docs/serving.md",
}


class RealtimeClient:
    """A session; a context manager. `send` may be called from another thread than `events`."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """Raises UserError where no session is to be had, with the remedy."""
        from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
        from websockets.sync.client import connect

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._socket = connect(
                url, additional_headers=headers, max_size=None, open_timeout=OPEN_S
            )
        except InvalidURI:
            raise UserError(f"url={url!r}: must begin with ws:// or wss://") from None
        except InvalidStatus as error:
            status = error.response.status_code
            told = REFUSED.get(status, f"answers {status}; is it a server of `omni-serve run`?")
            raise UserError(f"{url}: {told}") from None
        except (OSError, InvalidHandshake) as error:
            raise UserError(
                f"{url}: no server answers there ({error}); start one with: omni-serve run"
            ) from None
        self._url = url

    def send(self, type: str, **fields: Any) -> None:
        """One event."""
        self._socket.send(json.dumps({"type": type, **fields}))

    def append(self, wire: np.ndarray) -> None:
        """More sound of the question: [n] int16 at 24 kHz."""
        audio = base64.b64encode(wire.astype("<i2").tobytes()).decode()
        self.send("input_audio_buffer.append", audio=audio)

    def events(self) -> Iterator[Event]:
        """What the server tells. Ends where this side closes; raises UserError where the server
        does."""
        from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

        try:
            while True:
                yield json.loads(self._socket.recv())
        except ConnectionClosedOK:
            return
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else "none"
            raise UserError(f"{self._url}: the server hung up (close code {code})") from None

    def close(self) -> None:
        """No more."""
        self._socket.close()

    def __enter__(self) -> RealtimeClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def to_wire(samples: np.ndarray) -> np.ndarray:
    """[n] float32 at 16 kHz -> [m] int16 at 24 kHz."""
    wire = soxr.resample(samples, SAMPLE_RATE, WIRE_RATE)
    return np.round(np.clip(wire, -1, 1) * 32_767).astype(np.int16)


def from_wire(delta: str) -> np.ndarray:
    """The sound of an event: [n] int16 at 24 kHz."""
    return np.frombuffer(base64.b64decode(delta), "<i2")
