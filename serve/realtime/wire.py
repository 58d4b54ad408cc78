"""What all wire objects share: unknown keys are passed over, and null is the default or nothing."""

from __future__ import annotations

import secrets
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator

ID_BYTES = 12
# Close codes of the WebSocket; clients come back after the last two.
NORMAL, RESTARTING, TRY_AGAIN = 1000, 1012, 1013


class Wire(BaseModel):
    """An object of the protocol.

    A key that we don't know is passed over: clients are newer than servers. A null stays where a
    field may be null, and elsewhere stands for its default, as an absent key does.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            name: value
            for name, value in values.items()
            if value is not None or (name in fields and _may_be_null(fields[name].annotation))
        }


def _may_be_null(annotation: Any) -> bool:
    return annotation is Any or NoneType in get_args(annotation)


def new_id(kind: str) -> str:
    """An id as the protocol has them: "resp_..."."""
    return f"{kind}_{secrets.token_hex(ID_BYTES)}"


class Refused(Exception):
    """What a client asks can't be done: told as an `error` event, and the session goes on."""

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
