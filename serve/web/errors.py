"""What goes wrong over HTTP, in the shape that OpenAI's clients read, whoever found it."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serve.chat import ApiError

CODES = {401: "invalid_api_key", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


def shape_errors(app: FastAPI) -> None:
    """Every error of this application has the body {"error": {"message", "type", ...}}."""

    @app.exception_handler(ApiError)
    def refused(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    def raised(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code == 404:
            message = f"{request.url.path}: nothing is here; /openapi.json names what there is"
        response = ApiError(error.status_code, CODES.get(error.status_code), message).response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])  # after "body"
        message = f"{place or 'body'}: {first['msg']}"
        return ApiError(422, "invalid_value", message, param=place or None).response()

    @app.exception_handler(Exception)  # uvicorn logs it
    def failed(request: Request, error: Exception) -> JSONResponse:
        return ApiError(500, "server_error", "The server failed at this request").response()
