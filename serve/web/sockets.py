"""uvicorn's WebSocket, which shows the application what it goes over."""

from __future__ import annotations

from asyncio import BaseTransport

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

TRANSPORT = "transport"  # in the state of the connection's scope


class SessionSocket(WebSocketsSansIOProtocol):
    """Give it to uvicorn.Config as `ws`."""

    def connection_made(self, transport: BaseTransport) -> None:
        """As uvicorn's; what is in app_state is in the scope's state."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


def transport_of(socket: WebSocket) -> BaseTransport | None:
    """The connection under a WebSocket; None where a server does not tell."""
    return socket.scope.get("state", {}).get(TRANSPORT)
