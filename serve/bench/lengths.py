"""`omni-serve bench true-length`: what a Whisper encoder loses where nothing is padded to 30 s.

Whisper has only ever seen windows of 30 s, most of them silence behind the words. Encoded at their
true length, short questions cost a tenth; here their frames are held against those of the window.
"""

# Heavy imports stand inside the functions: `omni-serve --help` must not wait for torch.
from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni.files import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from omni.speech_encoder import SpeechEncoder

TAILS_S = (0.0, 0.25, 0.5, 1.0, 2.0)  # of silence behind the words
LOW = 0.05  # the share of frames below the low percentile


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One tail of silence, over all frames of all recordings, beside the padded window.

    cosine_mean, cosine_low, cosine_least: of a frame with the same frame of the window; low is the
    5th percentile. relative_rms: of the differences, over the RMS of the window's frames. speed:
    how many times as fast the encoder is, the median over the recordings.
    """

    tail_s: float
    cosine_mean: float
    cosine_low: float
    cosine_least: float
    relative_rms: float
    speed: float


def true_length(
    encoder: SpeechEncoder,
    waveforms: Sequence[np.ndarray],
    *,
    tails_s: Sequence[float] = TAILS_S,
    progress: Callable[[], object] = lambda: None,
) -> list[Compared]:
    """Frames at true length, with each tail of silence, beside those of the padded 30 s.

    waveforms: [samples] float at 16 kHz, at most 30 s each, one or more.
    """
    import numpy as np
    import torch

    from omni.audio import SAMPLE_RATE, encoder_frames, mel_frames, pad_to_window

    cosines: dict[float, list[Tensor]] = {tail: [] for tail in tails_s}
    errors = dict.fromkeys(tails_s, 0.0)
    ratios: dict[float, list[float]] = {tail: [] for tail in tails_s}
    power = 0.0
    for waveform in waveforms:
        whole, seconds = _encoded(encoder, pad_to_window(waveform))
        said = encoder_frames(mel_frames(len(waveform)))
        whole = whole[:said]
        power += float(whole.square().sum())
        for tail in tails_s:
            silence = np.zeros(round(tail * SAMPLE_RATE), dtype=waveform.dtype)
            frames, spent = _encoded(encoder, np.concatenate([waveform, silence]))
            frames = frames[:said]
            cosines[tail].append(torch.cosine_similarity(frames, whole, dim=-1))
            errors[tail] += float((frames - whole).square().sum())
            ratios[tail].append(seconds / spent)
        progress()
    found: list[Compared] = []
    for tail in tails_s:
        alike = torch.cat(cosines[tail])
        found.append(
            Compared(
                tail_s=tail,
                cosine_mean=float(alike.mean()),
                cosine_low=float(alike.quantile(LOW)),
                cosine_least=float(alike.min()),
                relative_rms=(errors[tail] / power) ** 0.5,
                speed=statistics.median(ratios[tail]),
            )
        )
    return found


def _encoded(encoder: SpeechEncoder, waveform: np.ndarray) -> tuple[Tensor, float]:
    """[F, D], and the seconds that the encoder took."""
    import torch

    mel = encoder.config.log_mel(waveform)
    mask = torch.ones(1, mel.shape[1], dtype=torch.bool)
    with torch.no_grad():
        started = time.perf_counter()
        frames = encoder(mel[None], mask)
        return frames.sequence(0), time.perf_counter() - started


def true_length_command(
    recordings: Annotated[
        list[Path], typer.Argument(metavar="RECORDING...", help="Of speech, at most 30 s each.")
    ],
    speech_encoder: Annotated[
        str, typer.Option(metavar="FOLDER_OR_HUB_ID", help="A Whisper encoder.")
    ],
) -> None:
    """Frames of recordings at their true length, with tails of silence, beside 30 s of padding."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from tqdm import tqdm

    from omni.audio import SAMPLE_RATE, WINDOW_SECONDS, load_audio
    from omni.checkpoint import load_speech_encoder

    waveforms = [load_audio(path) for path in recordings]
    longest = WINDOW_SECONDS - max(TAILS_S)
    for path, waveform in zip(recordings, waveforms, strict=True):
        if len(waveform) > longest * SAMPLE_RATE:
            raise UserError(
                f"{path}: {len(waveform) / SAMPLE_RATE:.1f} s; at most {longest:g} s leave room "
                "for a tail of silence, cut it"
            )
    encoder = load_speech_encoder(speech_encoder)
    with tqdm(total=len(waveforms), unit="recording") as bar:
        found = true_length(encoder, waveforms, progress=bar.update)
    table = Table(box=SIMPLE_HEAD)
    for title in ("silence", "cosine", "5th percentile", "least", "relative RMS", "times as fast"):
        table.add_column(title, justify="right")
    for row in found:
        table.add_row(
            f"{row.tail_s:g} s", f"{row.cosine_mean:.3f}", f"{row.cosine_low:.3f}",
            f"{row.cosine_least:.2f}", f"{row.relative_rms:.3f}", f"{row.speed:.1f}",
        )  # fmt: skip
    Console().print(table)
    seconds = sum(map(len, waveforms)) / SAMPLE_RATE
    typer.echo(f"{len(waveforms)} recordings, {seconds:.0f} s, {speech_encoder}")
