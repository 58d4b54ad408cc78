"""Waveforms and log-mel: load, resample, measure. Everything inside omni is 16 kHz mono float32."""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from omni.files import write_bytes

SAMPLE_RATE = 16_000  # Hz
N_FFT = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
MEL_RATE = SAMPLE_RATE // HOP  # 100 log-mel frames per second
FRAME_RATE = MEL_RATE // 2  # 50 encoder frames per second: Whisper's second convolution halves
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE  # 320, i.e. 20 ms
WINDOW_SECONDS = 30  # Whisper's window
WINDOW_SAMPLES = WINDOW_SECONDS * SAMPLE_RATE
MEL_FLOOR = 1e-10
DYNAMIC_RANGE = 8.0  # log10 units kept below the loudest bin, as in openai-whisper

Count = TypeVar("Count", int, Tensor)


class AudioError(ValueError):
    """Audio that cannot be used; the message names the file, the rule and the remedy."""


def load_audio(source: str | Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Read any file that libsndfile reads (wav, flac, ogg, mp3) as 16 kHz mono.

    source: a path or the bytes of a file; name: what errors call it.
    Returns [samples] float32 in about -1..1. Channels are averaged, other rates resampled (soxr).
    Raises AudioError for a missing, empty or unreadable file and for samples that are not finite.
    """
    import soundfile

    label = name or (str(source) if isinstance(source, (str, Path)) else "audio bytes")
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir():
            raise AudioError(f"{label}: is a folder; give the path of an audio file")
        if not path.is_file():
            raise AudioError(f"{label}: no such file; give the path of an audio file")
        if path.stat().st_size == 0:
            raise AudioError(f"{label}: the file is empty (0 bytes); record it again")
    # A file's name need not be text: bytes name every file.
    stream: Any = io.BytesIO(source) if isinstance(source, bytes) else os.fsencode(source)
    try:
        samples, rate = soundfile.read(stream, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(
            f"{label}: not readable as audio ({error}); convert it to wav, flac, ogg or mp3"
        ) from None
    return prepare(samples, rate, name=label)


def read_audio(source: Any, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Audio in any form that transformers' processors take -> [samples] float32, 16 kHz mono.

    source: [samples] or [samples, channels] at `rate` Hz, as an array, a tensor or a list, as
    `prepare` takes them; or a file at its own rate, as a path, the address of one on the web, or
    bytes.
    Raises AudioError as `load_audio` does, and for what is none of these.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return load_audio(_download(source), name=source)
    if isinstance(source, (str, Path, bytes)):
        return load_audio(source)
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        source = source.float().numpy() if source.is_floating_point() else source.numpy()
    try:
        samples = np.asarray(source)
    except (TypeError, ValueError):
        samples = np.empty(())
    if samples.ndim not in (1, 2):
        raise AudioError(
            f"audio: {type(source).__name__} holds no recording; give [samples] as an array, the "
            "path of a file or its web address"
        )
    return prepare(samples, rate)


def _download(address: str) -> bytes:
    import httpx

    try:
        return httpx.get(address, follow_redirects=True, timeout=30).raise_for_status().content
    except httpx.HTTPError as error:
        raise AudioError(
            f"{address}: not to be had ({error}); check the address, or download it and give the "
            "file"
        ) from None


def prepare(samples: np.ndarray, rate: int, *, name: str = "audio") -> np.ndarray:
    """[samples] or [samples, channels] at `rate` Hz -> [samples] float32 at 16 kHz, checked.

    Floats are in about -1..1; int16, int32 and uint8 are a wav file's own, which spans them.
    """
    mono = _floats(np.asarray(samples), name)
    if mono.size == 0:
        raise AudioError(f"{name}: holds no samples; at least one frame of 20 ms is needed")
    if mono.ndim == 2:
        if len(mono) < mono.shape[1]:
            raise AudioError(
                f"{name}: {[*mono.shape]}, must be [samples, channels]; transpose it, if it is "
                "[channels, samples]"
            )
        mono = mono.mean(axis=1)
    check_finite(mono, name=name)
    if rate != SAMPLE_RATE:
        mono = resample(mono, rate, SAMPLE_RATE)
    return np.ascontiguousarray(mono)


def _floats(samples: np.ndarray, name: str) -> np.ndarray:
    """float32, the integers of a wav file in -1..1."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.name in ("int16", "int32"):
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"{name}: samples of type {samples.dtype}; must be floats in -1..1, or the int16, "
            "int32 or uint8 of a wav file"
        )
    return samples.astype(np.float32)


def check_finite(samples: np.ndarray, *, name: str = "audio") -> None:
    """Raise AudioError if a sample is NaN or infinite: one would spoil every frame of log-mel."""
    if bad := int((~np.isfinite(samples)).sum()):
        raise AudioError(f"{name}: {bad} samples are NaN or infinite; repair or record it again")


def resample(samples: np.ndarray, rate_in: float, rate_out: float) -> np.ndarray:
    """[samples] float32 at `rate_in` Hz -> [samples] float32 at `rate_out` Hz (soxr, HQ)."""
    import soxr

    return soxr.resample(samples, rate_in, rate_out).astype(np.float32)


def save_wav(path: str | Path, waveform: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write [samples] float in -1..1 as 16-bit PCM; aside first, then renamed."""
    import soundfile

    # Rounded here, for libsndfile cuts off; made in memory, for it says nothing of a full disk.
    samples = np.round(np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype="PCM_16", format="WAV")
    write_bytes(path, file.getvalue())


def mel_frames(samples: int) -> int:
    """How many log-mel frames a waveform of `samples` gives (openai-whisper drops the last)."""
    return samples // HOP


def encoder_frames(mel: Count) -> Count:
    """Log-mel frames -> encoder frames: Whisper's second convolution has stride 2."""
    return (mel + 1) // 2


@lru_cache(maxsize=4)
def mel_filters(n_mels: int) -> Tensor:
    """[n_mels, N_FFT // 2 + 1]: Slaney-normalised triangles, as openai-whisper ships them."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=N_FFT // 2 + 1,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters.T.copy()).float()


def log_mel(
    waveform: Tensor | np.ndarray,
    n_mels: int,
    *,
    maximum: float | None = None,
    running: bool = False,
) -> Tensor:
    """Log-mel as openai-whisper computes it, for one waveform of any length.

    waveform: [samples] float, 16 kHz. maximum: the log10 energy from which the dynamic range of 8
    is counted; None takes this waveform's own, which is Whisper's rule. running: each frame counts
    from the loudest of it and those before, which is known while a recording goes on.
    Returns [n_mels, samples // HOP] float32, about -1..1.
    Raises AudioError if the waveform is shorter than half an analysis window.
    """
    samples = torch.as_tensor(waveform, dtype=torch.float32)
    if samples.shape[-1] <= N_FFT // 2:
        raise AudioError(
            f"{samples.shape[-1]} samples of audio: at least {N_FFT // 2 + 1} are needed for one "
            "analysis window; record more than a moment"
        )
    edge = N_FFT // 2
    padded = torch.nn.functional.pad(samples[None], (edge, edge), mode="reflect")[0]
    log = log_energy(padded, n_mels)[:, : mel_frames(samples.shape[-1])]
    if running:
        peak, _ = running_peak(log)
    else:
        peak = log.max() if maximum is None else torch.as_tensor(maximum)
    return compressed(log, peak)


def log_energy(samples: Tensor, n_mels: int) -> Tensor:
    """[samples] -> [n_mels, frames] log10 energies of every whole analysis window, from the first
    sample on."""
    window = torch.hann_window(N_FFT, device=samples.device)
    spectrum = torch.stft(samples, N_FFT, HOP, window=window, center=False, return_complex=True)
    energy = mel_filters(n_mels).to(samples.device) @ spectrum.abs() ** 2
    return energy.clamp(min=MEL_FLOOR).log10()


def running_peak(log: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """[n_mels, frames] -> of each frame the maximum up to it [frames], and the last of these [].

    before: the maximum of what came before.
    """
    peaks = log.amax(0).cummax(0).values
    if before is not None:
        peaks = torch.maximum(peaks, before)
    return peaks, peaks[-1]


def compressed(log: Tensor, peak: Tensor) -> Tensor:
    """Whisper's range: `DYNAMIC_RANGE` below the peak is kept; about -1..1."""
    return (torch.maximum(log, peak - DYNAMIC_RANGE) + 4.0) / 4.0


def pad_to_window(waveform: np.ndarray) -> np.ndarray:
    """Zero-pad to Whisper's 30 s window: for published weights, which never saw anything else."""
    if len(waveform) > WINDOW_SAMPLES:
        raise AudioError(
            f"{len(waveform) / SAMPLE_RATE:.1f} s of audio: a question may last {WINDOW_SECONDS} s;"
            " split it"
        )
    return np.pad(waveform, (0, WINDOW_SAMPLES - len(waveform)))
