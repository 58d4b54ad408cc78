"""Sound as it travels <-> what the model hears and says: float32 at 16 kHz.

Streams: a decoder or encoder belongs to one run of sound, whose pieces join without a seam.
"""

from __future__ import annotations

import base64
import binascii
import io
from functools import cache
from typing import Literal

import numpy as np
import soundfile
import soxr

from omni.audio import SAMPLE_RATE
from serve.realtime.wire import Refused

Kind = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
RATES: dict[Kind, int] = {"audio/pcm": 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}
WIDTHS: dict[Kind, int] = {"audio/pcm": 2, "audio/pcmu": 1, "audio/pcma": 1}  # bytes per sample
LAWS: dict[Kind, str] = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}
FULL_SCALE = 32_768


def read_base64(text: str, kind: Kind, param: str) -> bytes:
    """The bytes of whole samples. Raises Refused for what is no base64, or half a sample."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("invalid_base64", f"{param}: not base64 ({error})", param=param) from None
    if len(data) % WIDTHS[kind]:
        raise Refused(
            "invalid_audio", f"{param}: {len(data)} bytes, no whole number of 16-bit samples",
            param=param,
        )  # fmt: skip
    return data


def duration_ms(data: bytes, kind: Kind) -> float:
    """How long these bytes sound."""
    return 1e3 * len(data) / (WIDTHS[kind] * RATES[kind])


class WireDecoder:
    """Bytes in a wire format -> [n] float32 at 16 kHz."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self._resampler = soxr.ResampleStream(RATES[kind], SAMPLE_RATE, 1, dtype="float32")
        self._bytes = self._given = 0

    @property
    def held_back(self) -> int:
        """Samples at 16 kHz of what came in that have still to be given."""
        came = self._bytes // WIDTHS[self.kind]
        return came * SAMPLE_RATE // RATES[self.kind] - self._given

    def decode(self, data: bytes, *, last: bool = False) -> np.ndarray:
        """The next piece; some 20 ms are held back until more comes. last: give these too."""
        samples = self._resampler.resample_chunk(_samples(data, self.kind), last=last)
        self._bytes += len(data)
        self._given += len(samples)
        return samples


class WireEncoder:
    """[n] float32 at 16 kHz -> bytes in a wire format."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self._resampler = soxr.ResampleStream(SAMPLE_RATE, RATES[kind], 1, dtype="float32")

    def encode(self, waveform: np.ndarray, *, last: bool = False) -> bytes:
        """The next piece; some 20 ms are held back until more comes. last: give these too."""
        samples = self._resampler.resample_chunk(waveform.astype(np.float32), last=last)
        scaled = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        integers = scaled.astype("<i2")
        if self.kind == "audio/pcm":
            return integers.tobytes()
        return _compressed(LAWS[self.kind])[integers.view("<u2")].tobytes()


def _samples(data: bytes, kind: Kind) -> np.ndarray:
    if kind == "audio/pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / FULL_SCALE
    return _expanded(LAWS[kind])[np.frombuffer(data, np.uint8)]


@cache
def _expanded(law: str) -> np.ndarray:
    """[256] float32: what each byte of G.711 sounds."""
    every = io.BytesIO(bytes(range(256)))
    samples, _ = soundfile.read(
        every, samplerate=8_000, channels=1, format="RAW", subtype=law, dtype="float32"
    )
    return samples


@cache
def _compressed(law: str) -> np.ndarray:
    """[65536] uint8: the byte of G.711 for each 16-bit sample, by its unsigned value."""
    file = io.BytesIO()
    every = np.arange(1 << 16, dtype=np.uint16).view(np.int16)
    soundfile.write(file, every, 8_000, format="RAW", subtype=law)
    return np.frombuffer(file.getvalue(), np.uint8)
