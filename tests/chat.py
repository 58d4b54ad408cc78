"""What the tests of the chat protocol send."""

import base64
import io
from typing import Any

import numpy as np
import soundfile

from omni.audio import SAMPLE_RATE


def file_of(samples: np.ndarray, rate: int = SAMPLE_RATE, format: str = "WAV") -> bytes:
    """[n] or [n, channels] float32 -> the bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format)
    return file.getvalue()


def text64(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def spoken(data: bytes, format: str = "wav") -> dict[str, Any]:
    """A part that is a recording."""
    return {"type": "input_audio", "input_audio": {"data": text64(data), "format": format}}


def written(text: str) -> dict[str, Any]:
    """A part that is a text."""
    return {"type": "text", "text": text}


def user(*parts: dict[str, Any] | str) -> dict[str, Any]:
    """A question."""
    content = [written(part) if isinstance(part, str) else part for part in parts]
    return {"role": "user", "content": content}


def pcm_samples(data: bytes) -> np.ndarray:
    """16-bit samples -> [n] float32."""
    return np.frombuffer(data, "<i2").astype(np.float32) / 32_768
