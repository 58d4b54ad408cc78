"""uvicorn's WebSocket, which shows the application what it goes over, and closes no client whose
pong waits behind messages that we read slowly."""

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
        self._came_at = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's."""
        self._came_at = self.loop.time()
        super().data_received(data)

    def keepalive_timeout(self) -> None:
        """As uvicorn's, for a client of which nothing has come since the ping, and nothing waits
        to be read. Any other is there, and its pong will be read in its turn."""
        if self.ping_timeout and (self.read_paused or self._came_at > self.ping_sent_at):
            self.ping_sent_at = self.loop.time()
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
        else:
            super().keepalive_timeout()


def transport_of(socket: WebSocket) -> BaseTransport | None:
    """The connection under a WebSocket; None where a server does not tell."""
    return socket.scope.get("state", {}).get(TRANSPORT)
