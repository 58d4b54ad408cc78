"""Connections to a running server, for benches that are its clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from omni.files import UserError

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection


def opener(address: str, api_key: str | None) -> Callable[[], ClientConnection]:
    """Opens a new session at each call; UserError where there is none to be had."""
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def open_socket() -> ClientConnection:
        try:
            return connect(address, additional_headers=headers, max_size=None)
        except (OSError, WebSocketException) as error:
            raise UserError(f"{address}: no session ({error}); start omni-serve run") from None

    return open_socket
