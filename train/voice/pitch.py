"""Fundamental frequency by YIN (de Cheveigne and Kawahara 2002), for the vocoder's targets."""

from __future__ import annotations

import numpy as np

from omni.audio import SAMPLE_RATE, SAMPLES_PER_FRAME

LOWEST, HIGHEST = 60.0, 420.0  # Hz, of speaking voices
SUMMED = 512  # samples over which a lag's difference is summed, 32 ms
DIP = 0.15  # the first dip below it is the period
VOICED = 0.3  # a frame whose deepest dip is above it has no pitch
SILENCE = 0.02  # of the clip's loudest frame (RMS); what is quieter has no pitch
UNKNOWN_F0 = 148.0  # Hz, for a clip without any voiced frame


def track_f0(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch at the start of every 20 ms frame.

    waveform: [W] float at 16 kHz. Returns f0 [W // 320] float32 in Hz, interpolated over unvoiced
    frames so that it has a value everywhere, and voiced [W // 320] bool.
    """
    frames = len(waveform) // SAMPLES_PER_FRAME
    longest = int(SAMPLE_RATE / LOWEST)
    span = SUMMED + longest
    padded = np.pad(waveform.astype(np.float64), (span // 2, span))
    windows = np.lib.stride_tricks.sliding_window_view(padded, span)[::SAMPLES_PER_FRAME][:frames]
    difference = _normalised_difference(windows, longest)  # [F, longest + 1]
    shortest = int(SAMPLE_RATE / HIGHEST)
    lag = _first_dip(difference, shortest)
    depth = np.take_along_axis(difference, lag[:, None], axis=1)[:, 0]
    loudness = np.sqrt((windows[:, :SUMMED] ** 2).mean(axis=1))
    voiced = (depth < VOICED) & (loudness > SILENCE * max(loudness.max(initial=0.0), 1e-6))
    f0 = SAMPLE_RATE / _refine(difference, lag)
    voiced &= (f0 > LOWEST) & (f0 < HIGHEST)
    if not voiced.any():
        return np.full(frames, UNKNOWN_F0, dtype=np.float32), voiced
    places = np.arange(frames)
    log_f0 = _median_of_three(np.log(f0[voiced]))
    return np.exp(np.interp(places, places[voiced], log_f0)).astype(np.float32), voiced


def _normalised_difference(windows: np.ndarray, longest: int) -> np.ndarray:
    """[F, span] -> [F, longest + 1]: YIN's cumulative mean normalised difference, 1 at lag 0."""
    size = 1 << (windows.shape[1] + SUMMED).bit_length()
    spectrum = np.fft.rfft(windows, size) * np.conj(np.fft.rfft(windows[:, :SUMMED], size))
    correlation = np.fft.irfft(spectrum, size)[:, : longest + 1]
    energy = np.cumsum(np.pad(windows**2, ((0, 0), (1, 0))), axis=1)
    shifted = energy[:, SUMMED : SUMMED + longest + 1] - energy[:, : longest + 1]
    difference = np.maximum(shifted[:, :1] + shifted - 2 * correlation, 0.0)
    mean = np.cumsum(difference[:, 1:], axis=1) / np.arange(1, longest + 1)
    return np.pad(
        difference[:, 1:] / np.maximum(mean, 1e-12), ((0, 0), (1, 0)), constant_values=1.0
    )


def _first_dip(difference: np.ndarray, shortest: int) -> np.ndarray:
    """[F]: the first local minimum below DIP, or else the deepest lag."""
    inner = difference[:, shortest:-1]
    dips = (inner < DIP) & (inner <= difference[:, shortest + 1 :])
    return shortest + np.where(dips.any(axis=1), dips.argmax(axis=1), inner.argmin(axis=1))


def _refine(difference: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """[F] float: the vertex of the parabola through each lag and its neighbours."""
    rows = np.arange(len(lag))
    before, at, after = (difference[rows, lag + shift] for shift in (-1, 0, 1))
    curve = before - 2 * at + after
    shift = np.where(curve > 1e-9, 0.5 * (before - after) / np.maximum(curve, 1e-9), 0.0)
    return lag + np.clip(shift, -0.5, 0.5)


def _median_of_three(values: np.ndarray) -> np.ndarray:
    """[V] -> [V], against single octave jumps."""
    padded = np.pad(values, 1, mode="edge")
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
