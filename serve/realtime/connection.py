"""One client's WebSocket: what it sends goes to its Talk, what waits in the outbox goes out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from omni.engine import EngineSession
from serve.realtime.activity import Voice
from serve.realtime.events import ServerEvent
from serve.realtime.limits import Limits
from serve.realtime.outbox import Outbox
from serve.realtime.served import Model
from serve.realtime.talk import Talk
from serve.realtime.wire import NORMAL, TRY_AGAIN, Refused

log = logging.getLogger(__name__)

TICK_S = 0.25  # how exactly the limits of time are kept
BURST_S = 5.0  # of messages at the allowed rate that may come at once
LAST_WORDS_S = 1.0  # for what is still to be sent when a session ends
MIB = 1 << 20


class Ended(Exception):
    """The server ends the session: why, and with which close code."""

    def __init__(self, code: int, refused: Refused) -> None:
        super().__init__(refused.message)
        self.code = code
        self.refused = refused


class Connection:
    """`run` lasts as long as the session. The socket has been accepted."""

    def __init__(
        self,
        socket: WebSocket,
        model: Model,
        engine: EngineSession,
        limits: Limits,
        make_voice: Callable[[], Voice],
    ) -> None:
        self._socket = socket
        self._limits = limits
        self._loop = loop = asyncio.get_running_loop()
        self._outbox = Outbox[ServerEvent](
            1e3 * limits.unsent_audio_s, full=engine.pause, ready=engine.resume
        )
        self.talk = Talk(
            model, engine, self._outbox, limits,
            make_voice=make_voice,
            post=lambda work: loop.call_soon_threadsafe(work) and None,
            in_background=lambda work: loop.run_in_executor(None, work) and None,
        )  # fmt: skip
        self._last_message = self._paced = loop.time()
        self._sending_since: float | None = None
        self._allowed = BURST_S * limits.messages_per_s  # messages
        self._slowed_told = False
        self._ending: Ended | None = None

    def end(self, code: int, refused: Refused) -> None:
        """Tell the client why, then close with this code; within a tick."""
        self._ending = Ended(code, refused)

    async def run(self, settings: dict[str, Any] | None = None) -> None:
        """Until either side ends it. settings: of the session, from an ephemeral key."""
        self.talk.open(settings)
        tasks = [
            asyncio.create_task(work) for work in (self._receive(), self._send(), self._watch())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if isinstance(error := task.exception(), Ended):
                    await self._say_farewell(error, tasks[1])
                elif error is not None and not isinstance(error, WebSocketDisconnect):
                    log.error("a connection failed", exc_info=error)
        finally:
            self.talk.close()
            for task in tasks:
                task.cancel()
            # Not gather: cancelled itself, it raises a child's cancellation in place of ours, and
            # the server's cancel scope would not know it for its own.
            await asyncio.wait(tasks)
            for task in tasks:  # looked at, or asyncio logs it as forgotten
                _ = task.cancelled() or task.exception()

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._last_message = self._loop.time()
            text = message.get("text")
            if text is None:
                self.talk.refuse(Refused("binary_message", "message: binary; send JSON as text"))
            elif len(text) > self._limits.message_mib * MIB:
                self.talk.refuse(
                    Refused(
                        "message_too_large",
                        f"message: {len(text)} characters, {self._limits.message_mib:g} MiB are "
                        "taken; send it in pieces",
                    )
                )
            else:
                await self._handle(text)
            await self._keep_pace()

    async def _handle(self, text: str) -> None:
        try:
            for _ in self.talk.handle(text, self._limits.json_depth):
                await asyncio.sleep(0)
        except Exception:  # our own mistake costs one message, not the session
            log.exception("a message could not be handled")
            self.talk.refuse(Refused("server_error", "The server failed to handle this message"))

    async def _keep_pace(self) -> None:
        """Read no faster than the limit; nothing is lost, the client's network holds it."""
        rate = self._limits.messages_per_s
        now = self._loop.time()
        self._allowed -= 1
        if self._allowed >= 0:
            return
        earned = (now - self._paced) * rate
        self._paced = now
        self._allowed = min(self._allowed + earned, BURST_S * rate)
        if self._allowed < 0:
            if not self._slowed_told:
                self._slowed_told = True
                self.talk.refuse(
                    Refused(
                        "rate_limit_exceeded",
                        f"messages: more than {rate:g} per second; they are read at this rate from "
                        "now on, and none is lost",
                    )
                )
            await asyncio.sleep(-self._allowed / rate)

    async def _send(self) -> None:
        while True:
            event = await self._outbox.next()
            self._sending_since = self._loop.time()
            await self._socket.send_text(event.as_text())
            self._sending_since = None

    async def _watch(self) -> None:
        limits, began = self._limits, self._loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            if self._ending is not None:
                raise self._ending
            now = self._loop.time()
            if now - began > limits.session_s:
                text = f"session: has lasted {limits.session_s:g} s, as long as one may"
                raise Ended(NORMAL, Refused("session_expired", text))
            if now - self._last_message > limits.idle_s:
                text = f"session: no message for {limits.idle_s:g} s"
                raise Ended(NORMAL, Refused("session_idle", text))
            if self._sending_since and now - self._sending_since > limits.stalled_s:
                text = f"client: has taken nothing for {limits.stalled_s:g} s"
                raise Ended(TRY_AGAIN, Refused("client_stalled", text))

    async def _say_farewell(self, ended: Ended, sender: asyncio.Task[None]) -> None:
        self.talk.refuse(ended.refused)
        log.info("session %s: %s", self.talk.session.id, ended.refused.message)
        waiting_until = self._loop.time() + LAST_WORDS_S
        while (len(self._outbox) or self._sending_since) and not sender.done():
            if self._loop.time() > waiting_until:
                break
            await asyncio.sleep(0.01)
        await close(self._socket, ended.code, ended.refused.code)


async def close(socket: WebSocket, code: int, reason: str) -> None:
    """Close a socket, unless it is closed."""
    if socket.application_state is WebSocketState.CONNECTED:
        with suppress(RuntimeError, WebSocketDisconnect, asyncio.TimeoutError):
            await asyncio.wait_for(socket.close(code, reason), LAST_WORDS_S)
