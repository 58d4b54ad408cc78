"""The WebSocket's messages as an AsyncAPI document, made from the models that read and write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from omni import __version__
from serve.realtime import CLIENT_EVENTS, SERVER_EVENTS

PLACE = "#/components/schemas/{model}"
CHANNEL = "#/channels/realtime"


def document() -> dict[str, Any]:
    """AsyncAPI 3.0: one channel, on which the client sends and the server answers."""
    shapes: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((model, "validation") for model in CLIENT_EVENTS),
        *((model, "serialization") for model in SERVER_EVENTS),
    ]
    _, schemas = models_json_schema(shapes, ref_template=PLACE)
    names = {_name(model): model.__name__ for model, _ in shapes}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "omni realtime", "version": __version__},
        "defaultContentType": "application/json",
        "channels": {
            "realtime": {
                "address": "/v1/realtime",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            }
        },
        "operations": {
            "hear": {"action": "receive", "channel": {"$ref": CHANNEL}} | _of(CLIENT_EVENTS),
            "tell": {"action": "send", "channel": {"$ref": CHANNEL}} | _of(SERVER_EVENTS),
        },
        "components": {
            "messages": {
                name: {"name": name, "payload": {"$ref": PLACE.format(model=model)}}
                for name, model in names.items()
            },
            "schemas": schemas["$defs"],
        },
    }


def _of(models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    return {"messages": [{"$ref": f"{CHANNEL}/messages/{_name(model)}"} for model in models]}


def _name(model: type[BaseModel]) -> str:
    """The event's name in the protocol."""
    return get_args(model.model_fields["type"].annotation)[0]
