"""The page that a person talks to: plain files, read once, served with what guards a browser.

It needs no key: what it shows is the same for everybody, and it asks for the key itself.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

FOLDER = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing from elsewhere, nothing inline, nobody's frame. 'self' covers the WebSocket, too; a page
# sounds by Web Audio, and keeps what it downloads in blobs.
POLICY = "; ".join(
    [
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'",
        "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
        "require-trusted-types-for 'script'", "trusted-types 'none'",
    ]
)  # fmt: skip
HEADERS = {
    "content-security-policy": POLICY,
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # A newer server has a newer page at once; what has not changed is answered with 304.
    "cache-control": "no-cache",
}


class PageFile:
    """One file as it is sent; its tag changes with what it holds."""

    def __init__(self, path: Path) -> None:
        self._body = path.read_bytes()
        tag = hashlib.sha256(self._body).hexdigest()[:32]
        self._headers = HEADERS | {"etag": f'"{tag}"', "content-type": TYPES[path.suffix]}

    def answer(self, request: Request) -> Response:
        """The file, or 304 where the browser has it."""
        known = request.headers.get("if-none-match", "")
        if self._headers["etag"] in (one.strip().removeprefix("W/") for one in known.split(",")):
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers)


def page_routes(*, needs_key: bool) -> APIRouter:
    """The page at `/`, its files in `/page/`, and what it has to know before it connects."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: PageFile(path) for path in sorted(FOLDER.iterdir())}

    @router.api_route("/", methods=["GET", "HEAD"])
    def index(request: Request) -> Response:
        return files["index.html"].answer(request)

    @router.get("/page/about.json")
    def about() -> JSONResponse:
        told: dict[str, Any] = {"needs_key": needs_key}
        return JSONResponse(told, headers=HEADERS)

    @router.api_route("/page/{name}", methods=["GET", "HEAD"])
    def file(name: str, request: Request) -> Response:
        if (found := files.get(name)) is None:
            return Response(status_code=404, headers=HEADERS)
        return found.answer(request)

    return router
