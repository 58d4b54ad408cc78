"""What `/metrics` tells, in Prometheus' terms."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SESSIONS = Gauge("omni_sessions", "Sessions that are open")
REJECTED = Counter("omni_sessions_rejected", "Connections that got no session", ["reason"])
RESPONSES = Counter("omni_responses", "Responses that have ended", ["status"])
REFUSALS = Counter("omni_errors", "Error events sent to clients", ["code"])
FIRST_AUDIO = Histogram(
    "omni_first_audio_seconds",
    "From the question's end to the first sound of its answer",
    buckets=(0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
