"""The application: the protocol's socket, and what stands around it over HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from omni import __version__
from omni.engine import Engine, EngineFull
from serve.chat import (
    FULL,
    ApiError,
    ErrorAnswer,
    chat_router,
    describe_request,
    other_model,
    tell_of_full,
)
from serve.realtime import (
    DEFAULT_VOICE,
    REJECTED,
    RESTARTING,
    SESSION_LIMIT,
    SESSIONS,
    TRY_AGAIN,
    Connection,
    ErrorBody,
    ErrorEvent,
    Model,
    Refused,
    SessionObject,
    Voice,
    check_told,
    close,
    exposition,
    new_id,
    silero,
    updated,
)
from serve.web.asyncapi import document
from serve.web.draining import Draining
from serve.web.errors import shape_errors
from serve.web.guard import METRICS, guard
from serve.web.keys import SUBPROTOCOL, Grant, Keys, offers_subprotocol
from serve.web.settings import ServeSettings
from serve.web.sockets import transport_of
from serve.web.static import page_routes

SECONDS = (10, 7_200)  # that a short-lived key may live
SECONDS_DEFAULT = 600
RETRY_S = 1  # until the replica that takes the place of one that leaves is asked
KEY_NEEDED = "No right API key: send one of this server's as Authorization: Bearer KEY"

log = logging.getLogger(__name__)


class Expiry(BaseModel):
    """How long a short-lived key is good."""

    anchor: str = "created_at"
    seconds: int = Field(default=SECONDS_DEFAULT, ge=SECONDS[0], le=SECONDS[1])


class SecretRequest(BaseModel):
    """What a short-lived key is wanted for."""

    model_config = ConfigDict(extra="ignore")

    expires_after: Expiry = Expiry()
    session: dict[str, Any] = Field(default_factory=dict[str, Any])


class Secret(BaseModel):
    """A short-lived key; expires_at: seconds since 1970."""

    value: str
    expires_at: int
    session: SessionObject


def granted(request: Request) -> Grant:
    """What the request's key allows. Raises HTTPException for none."""
    keys: Keys = request.app.state.keys
    if (grant := keys.grant(request.headers)) is None:
        tell_of_stranger(request)
        raise HTTPException(401, KEY_NEEDED)
    return grant


def tell_of_stranger(request: HTTPConnection) -> None:
    """Whose user sees no more than that it failed may find the reason in the log."""
    who = request.client.host if request.client else "somebody"
    log.warning("%s: %s brought no right API key", request.url.path, who)


Key = Annotated[Grant, Depends(granted)]


def lasting(grant: Key) -> None:
    """Short-lived keys are for the WebSocket alone."""
    if not grant.lasting:
        raise HTTPException(403, "A short-lived key opens /v1/realtime alone")


def create_app(
    settings: ServeSettings,
    engine: Engine,
    model: Model,
    *,
    make_voice: Callable[[], Voice] = silero,
    now: Callable[[], float] = time.time,
    draining: Draining | None = None,
) -> FastAPI:
    """Everything that is served, on an engine that runs. draining: by which it takes leave."""
    leave = draining or Draining()
    app = FastAPI(
        title="omni", version=__version__, docs_url=None, redoc_url=None,
        description="Speech in, speech out. The WebSocket at /v1/realtime is described in "
        "/asyncapi.json.",
    )  # fmt: skip
    guard(app, settings)
    shape_errors(app)
    chat = chat_router(engine, model, settings.limits, now=now)

    def staying() -> None:
        """Raise ApiError once the server takes leave."""
        if leave.begun:
            refused = leave.refusal()
            raise ApiError(503, refused.code, refused.message, retry_after_s=RETRY_S)

    app.include_router(chat, dependencies=[Depends(lasting), Depends(staying)])
    describe_request(app)
    keys = app.state.keys = Keys(settings.api_keys, secret=settings.key_secret, now=now)
    served = {"id": model.name, "object": "model", "created": int(now()), "owned_by": "omni"}
    app.include_router(page_routes(needs_key=bool(settings.api_keys)))
    SESSION_LIMIT.set(engine.max_sessions)

    @app.get("/health")
    def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "draining" if leave.begun else "ok"}

    @app.get("/ready")
    def ready() -> JSONResponse:
        """Whether a new session would be taken now."""
        takes = engine.alive() and not leave.begun
        free = engine.max_sessions - engine.sessions if takes else 0
        return JSONResponse(
            {"ready": free > 0, "sessions": engine.sessions, "max_sessions": engine.max_sessions},
            status_code=200 if free > 0 else 503,
        )

    @app.get(METRICS)
    def metrics(_: Key) -> Response:
        """Prometheus' text format."""
        return Response(exposition(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    def models(_: Key) -> dict[str, Any]:
        """The model that is served."""
        return {"object": "list", "data": [served]}

    @app.get("/v1/models/{name:path}", responses={404: {"model": ErrorAnswer}})
    def one_model(_: Key, name: str) -> dict[str, Any]:
        """The same by its name."""
        if name != model.name:
            raise ApiError.of(other_model(name, model), 404)
        return served

    @app.get("/v1/voices")
    def voices(_: Key) -> dict[str, Any]:
        """The voices that it has."""
        return {"object": "list", "data": [{"id": DEFAULT_VOICE, "object": "voice"}]}

    @app.get("/asyncapi.json")
    def asyncapi() -> dict[str, Any]:
        """The WebSocket's messages."""
        return document()

    @app.post("/v1/realtime/client_secrets", responses={422: {"model": ErrorAnswer}})
    def client_secrets(
        grant: Key, wanted: Annotated[SecretRequest, Body(default_factory=SecretRequest)]
    ) -> Secret:
        """A short-lived key for a browser, with the settings of its session."""
        if not grant.lasting:
            raise HTTPException(403, "A short-lived key makes no other key")
        plain = SessionObject(
            id=new_id("sess"), model=model.name, expires_at=int(now() + settings.limits.session_s)
        )
        try:
            session = updated(plain, wanted.session)
            check_told(session.instructions, session.tools, "session", model.control_token_in)
        except Refused as refused:
            raise HTTPException(400, refused.message) from None
        made = keys.make(wanted.expires_after.seconds, wanted.session)
        if made is None:
            text = "session: too large for a short-lived key; send it by session.update"
            raise HTTPException(400, text)
        return Secret(value=made[0], expires_at=made[1], session=session)

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        if (grant := await admitted(socket, keys)) is None:
            return
        if (asked := socket.query_params.get("model", model.name)) != model.name:
            log.info("%s: %r was asked for; %r answers", socket.url.path, asked[:100], model.name)
        await socket.accept(SUBPROTOCOL if offers_subprotocol(socket.headers) else None)
        if leave.begun:
            REJECTED.labels(reason="draining").inc()
            await turn_away(socket, leave.refusal(), RESTARTING)
            return
        try:
            session = engine.open(model.base)
        except (EngineFull, RuntimeError):
            tell_of_full(engine)
            await turn_away(socket, Refused("server_full", FULL), TRY_AGAIN)
            return
        connection = Connection(socket, model, session, settings.limits, make_voice)
        with SESSIONS.track_inprogress(), leave.among(connection, transport_of(socket)):
            await connection.run(grant.session)

    return app


async def admitted(socket: WebSocket, keys: Keys) -> Grant | None:
    """What the key of who connects allows; None: nothing, and this has been told."""
    grant = keys.grant(socket.headers)
    if grant is None:
        REJECTED.labels(reason="key").inc()
        tell_of_stranger(socket)
        denial = ApiError(401, "invalid_api_key", KEY_NEEDED).response()
        await socket.send_denial_response(denial)
    return grant


async def turn_away(socket: WebSocket, refused: Refused, code: int) -> None:
    """No session for this one: told why, and closed with a code on which clients come back."""
    body = ErrorBody(type="server_error", code=refused.code, message=refused.message)
    await socket.send_text(ErrorEvent(error=body).as_text())
    await close(socket, code, refused.code)
