"""What a running server tells of itself at `/metrics`."""

from __future__ import annotations

import re
from collections.abc import Callable

from omni.files import UserError

ANSWER_S = 60.0
MEMORY = "process_resident_memory_bytes"
CHUNKS, SOUND = "omni_chunks_total", "omni_sound_seconds_total"
CPU = "process_cpu_seconds_total"


def metrics_at(address: str, api_key: str | None = None) -> Callable[..., list[float]]:
    """Reads metrics by their names, all of one moment, of the server whose WebSocket is there."""
    import httpx

    page = address.replace("ws", "http", 1).partition("/v1/")[0] + "/metrics"
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def read(*names: str) -> list[float]:
        text = httpx.get(page, headers=headers, timeout=ANSWER_S).text
        return [_value(text, name, page) for name in names]

    return read


def _value(text: str, name: str, page: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    if found is None:
        raise UserError(
            f"{page}: tells no {name}; give a server on Linux that runs without --replicas"
        )
    return float(found[1])
