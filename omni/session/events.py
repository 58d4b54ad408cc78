"""What a session says while it answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class TextDelta:
    """Text that one token added; may be "" while a character is still incomplete."""

    text: str
    token_id: int


@dataclass(frozen=True)
class AudioDelta:
    """One chunk of speech: waveform [W] float32 at 16 kHz, `units` merged units, in order."""

    waveform: np.ndarray
    units: int
    index: int


@dataclass(frozen=True)
class Chunk:
    """What `AudioDelta` was, for the record.

    at_ms: arrival after the last input sample; tokens: text tokens said by then.
    """

    units: int
    samples: int
    at_ms: float
    tokens: int


@dataclass(frozen=True)
class Timings:
    """All in ms. Moments are counted from the last input sample; None: did not happen.

    encode_ms and prefill_ms are durations; real_time_factor is total_ms over audio_ms.
    """

    encode_ms: float
    prefill_ms: float
    first_token_ms: float | None
    first_unit_ms: float | None
    first_audio_ms: float | None
    total_ms: float
    audio_ms: float
    real_time_factor: float | None


@dataclass(frozen=True)
class Done:
    """The end of a reply, and all of it once more.

    reason: "end" (the model said so), "length" (max_new_tokens) or "cancelled".
    """

    text: str
    token_ids: list[int]
    units: list[int]
    chunks: list[Chunk]
    timings: Timings
    reason: Literal["end", "length", "cancelled"]

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for json.dumps."""
        values = asdict(self)
        return values | {"timings_ms": values.pop("timings")}


Event = TextDelta | AudioDelta | Done
