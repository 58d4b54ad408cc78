"""The last word to a session whose replica has died."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from websockets.frames import Close, Frame, Opcode

from serve.realtime import RESTARTING

# As short as it can be, without a reason: where the replica died within a frame, the client takes
# these four bytes for a part of it, and the connection ends before the frame is whole.
LAST_WORD = Frame(Opcode.CLOSE, Close(RESTARTING, "").serialize()).serialize(mask=False)
LINGER_S = 2.0  # for a client to take it, and to close its end


async def close_restarting(connection: socket.socket) -> None:
    """Close a WebSocket without TLS with 1012, on which clients come back."""
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    with connection, suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER_S):
            await loop.sock_sendall(connection, LAST_WORD)
            connection.shutdown(socket.SHUT_WR)
            # Closed while the client still speaks, it would be reset, and the word be lost.
            while await loop.sock_recv(connection, 65_536):
                pass
