"""What can't be done, as OpenAI's clients read it from the body of a response over HTTP."""

from __future__ import annotations

from typing import Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from serve.realtime import Refused

ErrorType = Literal["invalid_request_error", "server_error"]


class ErrorDetail(BaseModel):
    """message: the value, the rule and the remedy. param: the place in the request."""

    message: str
    type: ErrorType = "invalid_request_error"
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """The whole body."""

    error: ErrorDetail


class ApiError(Exception):
    """A request that gets no answer. retry_after_s: when it is worth while to ask again."""

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        kind: ErrorType = "invalid_request_error" if status < 500 else "server_error"
        self.body = ErrorAnswer(
            error=ErrorDetail(message=message, type=kind, param=param, code=code)
        )
        self._retry_after_s = retry_after_s

    @classmethod
    def of(cls, refused: Refused, status: int = 400) -> ApiError:
        """What was refused while a request was read."""
        return cls(status, refused.code, refused.message, param=refused.param)

    def response(self) -> JSONResponse:
        """As it goes out."""
        headers = {} if self._retry_after_s is None else {"Retry-After": str(self._retry_after_s)}
        return JSONResponse(self.body.model_dump(), status_code=self.status, headers=headers)
