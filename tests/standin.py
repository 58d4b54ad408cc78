"""A web service on this machine that fails as told: what the HTTP backends are tested against."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """body: what is sent; declared: the Content-Length that is claimed, if not the true one."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    declared: int | None = None
    delay_s: float = 0.0


@dataclass
class StandIn:
    """url: up to /v1. script: answers given first, in order; then `good` answers every request."""

    url: str
    good: Callable[[dict[str, Any]], Answer]
    script: list[Answer] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def stand_in(good: Callable[[dict[str, Any]], Answer]) -> Iterator[StandIn]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            service.requests.append(request | {"path": self.path})
            service.keys.append(self.headers.get("authorization"))
            answer = service.script.pop(0) if service.script else good(request)
            time.sleep(answer.delay_s)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(answer.declared or len(answer.body)))
            self.end_headers()
            with suppress(OSError):  # the client may wait no longer
                self.wfile.write(answer.body)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service = StandIn(f"http://127.0.0.1:{server.server_address[1]}/v1", good)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
