"""Clips as wav files, written aside and renamed."""

import os
from pathlib import Path

import numpy as np
import soundfile

from data_tools.speech.speak import SAMPLE_RATE


def write_wav(path: Path, waveform: np.ndarray) -> None:
    """[samples] float32 at 16 kHz -> int16 wav, written aside and renamed."""
    aside = path.with_name(path.name + ".partial")
    samples = np.round(np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
    soundfile.write(aside, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    os.replace(aside, path)
