"""What one client may do to the server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Each has its error event; docs/serving.md tells which, and with which close code.

    session_s: the longest session. idle_s: without any message. message_mib: one message.
    utterance_s: one spoken turn; what the encoder can hear, where that is less.
    messages_per_s: above it, and a burst of five seconds' worth, reading slows down.
    json_depth: of lists and objects. items: of a conversation. unsent_audio_s: sound that waits
    to be sent; at it the response pauses. stalled_s: without anything being taken by a client
    for which sound waits; or, over HTTP, without anything of its request having come.
    request_mib: one request of the chat protocol, with all recordings of its conversation; packed
    ones may be as long together as plain sound of that size.
    """

    session_s: float = 3_600.0
    idle_s: float = 120.0
    message_mib: float = 1.0
    utterance_s: float = 60.0
    messages_per_s: float = 200.0
    json_depth: int = 32
    items: int = 2_000
    unsent_audio_s: float = 2.0
    stalled_s: float = 5.0
    request_mib: float = 20.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"limits.{name}={value!r}: must be above 0")
        if self.message_mib > 15:
            raise ValueError(f"limits.message_mib={self.message_mib:g}: may be 15 at most")
