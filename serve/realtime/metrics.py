"""What `/metrics` tells, in Prometheus' terms."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from omni.session import Done

# Where it names a folder when this module is imported, each process keeps its numbers there.
SHARED = "PROMETHEUS_MULTIPROC_DIR"

STARTS = Counter("omni_starts", "Times that a process has loaded the model and begun to serve")
SESSION_LIMIT = Gauge(
    "omni_sessions_limit", "Sessions that may be open", multiprocess_mode="livesum"
)
SESSIONS = Gauge("omni_sessions", "Sessions that are open", multiprocess_mode="livesum")
REJECTED = Counter("omni_sessions_rejected", "Connections that got no session", ["reason"])
RESPONSES = Counter("omni_responses", "Responses that have ended", ["status"])
REFUSALS = Counter("omni_errors", "Error events sent to clients", ["code"])
FIRST_AUDIO = Histogram(
    "omni_first_audio_seconds",
    "From the question's end to the first sound of its answer",
    buckets=(0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
CHUNKS = Counter("omni_chunks", "Chunks of sound in answers, each made by a call of the vocoder")
SOUND = Counter("omni_sound_seconds", "How long the answers sound that were made")


def count_answer(done: Done) -> None:
    """An answer has come to its end."""
    if (first_audio_ms := done.timings.first_audio_ms) is not None:
        FIRST_AUDIO.observe(first_audio_ms / 1e3)
    CHUNKS.inc(len(done.chunks))
    SOUND.inc(done.timings.audio_ms / 1e3)


def exposition() -> bytes:
    """All of them, as Prometheus reads them; summed over the processes that share a folder."""
    if SHARED not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)
