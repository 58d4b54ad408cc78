"""A recording in a request -> what the model hears, within what a request may cost."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass

import numpy as np
import soundfile

from omni.audio import SAMPLE_RATE, AudioError, prepare
from serve.realtime import Refused

# A small file can hold a lot of silence: these bound what is read of it.
RATES = (8_000, 96_000)
CHANNELS = 2
DATA = "data:"
BASE64 = ";base64"


@dataclass
class Budget:
    """Seconds of sound that the recordings of one request may be together: each is bounded, but
    small files that hold a lot of silence can be many."""

    longest_s: float
    taken_s: float = 0.0

    def take(self, samples: np.ndarray, where: str) -> None:
        """Count a recording at 16 kHz. Raises Refused where it is too much."""
        self.taken_s += len(samples) / SAMPLE_RATE
        if self.taken_s > self.longest_s:
            raise Refused(
                "audio_too_long",
                f"{where}: {self.taken_s:.1f} s of sound with the recordings before it, and a "
                f"request may hold {self.longest_s:g} s; leave out the oldest",
                param=where,
            )


def from_base64(text: str, where: str) -> bytes:
    """Raises Refused for what is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("invalid_base64", f"{where}: not base64 ({error})", param=where) from None


def from_url(url: str, where: str) -> bytes:
    """What a data: address holds. Raises Refused for all others: a server that fetches what
    strangers name can be sent anywhere in its own network."""
    if not url[: len(DATA)].lower() == DATA:
        raise Refused(
            "unsupported_url",
            f"{where}={url[:60]!r}: this server fetches no address; send the recording itself, as "
            "input_audio or as data:audio/wav;base64,...",
            param=where,
        )
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(BASE64):
        raise Refused(
            "invalid_url", f"{where}: no data:audio/wav;base64,... ; encode it so", param=where
        )
    return from_base64(body, where)


def read_recording(data: bytes, where: str, *, longest_s: float) -> np.ndarray:
    """The bytes of a file that libsndfile reads -> [n] float32 at 16 kHz.

    Raises Refused for what is none, is too long or has too many channels.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels = file.samplerate, file.channels
            if not RATES[0] <= rate <= RATES[1] or channels > CHANNELS:
                raise _refused(
                    where,
                    f"{rate} Hz and {channels} channels; {RATES[0]} to {RATES[1]} Hz are heard, in "
                    f"one channel or {CHANNELS}",
                )
            most = round(longest_s * rate)
            samples = file.read(most + 1, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
        # Its whole text names our buffer, which tells a client nothing.
        why = error.error_string if isinstance(error, soundfile.LibsndfileError) else error
        raise _refused(
            where, f"not readable as audio ({why}); send a wav, flac, ogg or mp3"
        ) from None
    if len(samples) > most:
        raise Refused(
            "audio_too_long",
            f"{where}: longer than {longest_s:g} s, as much as is heard at a time; split it",
            param=where,
        )
    try:
        return prepare(samples, rate, name=where)
    except AudioError as error:
        raise Refused("invalid_audio", str(error), param=where) from None


def _refused(where: str, message: str) -> Refused:
    return Refused("invalid_audio", f"{where}: {message}", param=where)
