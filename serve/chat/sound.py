"""An answer's sound as clients take it: 16 bits at 24 kHz, bare or as a wav file, in base64."""

from __future__ import annotations

import base64
import io
import wave

import numpy as np

from serve.realtime import RATES, WireEncoder

KIND = "audio/pcm"
GROUP = 3  # bytes that base64 spells by whole characters


class SoundText:
    """[n] float32 at 16 kHz, in pieces -> base64 whose pieces joined are base64 of the whole."""

    def __init__(self) -> None:
        self._encoder = WireEncoder(KIND)
        self._rest = b""

    def spell(self, waveform: np.ndarray, *, last: bool = False) -> str:
        """The next piece; last: with all that was held back."""
        data = self._rest + self._encoder.encode(waveform, last=last)
        end = len(data) if last else len(data) - len(data) % GROUP
        self._rest = data[end:]
        return base64.b64encode(data[:end]).decode()


def whole_sound(waveforms: list[np.ndarray], *, wav: bool) -> str:
    """All of an answer, base64."""
    samples = np.concatenate([np.empty(0, np.float32), *waveforms])
    data = WireEncoder(KIND).encode(samples, last=True)
    if wav:
        file = io.BytesIO()
        with wave.open(file, "wb") as written:
            written.setnchannels(1)
            written.setsampwidth(2)
            written.setframerate(RATES[KIND])
            written.writeframes(data)
        data = file.getvalue()
    return base64.b64encode(data).decode()
