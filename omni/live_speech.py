"""Speech that is still being spoken: samples in, encoder frames out, as the whole would give them.

Only for encoders whose attention is in blocks. A frame comes when its block is complete and the
front end has heard 13 ms more; at the end of the question only the last block is left to encode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from omni.audio import (
    HOP,
    N_FFT,
    AudioError,
    check_finite,
    compressed,
    log_energy,
    mel_frames,
    running_peak,
)
from omni.speech_encoder import SpeechEncoder, SpeechEncoderState

EDGE = N_FFT // 2  # samples of an analysis window on each side of its centre


@dataclass(frozen=True)
class LiveSpeechState:
    """One recording, between two calls.

    heard: samples so far; samples: the last of them, as far back as the next window reaches;
    mel_frames: log-mel frames so far; peak: their maximum, None before the first;
    encoder: what the convolutions and the attention still need.
    """

    heard: int
    samples: Tensor
    mel_frames: int
    peak: Tensor | None
    encoder: SpeechEncoderState


class LiveSpeech:
    """Log-mel and encoder as one stage with memory; the weights are shared, the state is a call's.

    Any chunking of the samples, then `finish`, gives the frames of the whole recording.
    """

    def __init__(self, encoder: SpeechEncoder) -> None:
        self._encoder = encoder

    def initial_state(self) -> LiveSpeechState:
        """Before the first sample. Raises ValueError where attention is not in blocks."""
        weight = self._encoder.conv1.weight
        silence = torch.zeros(0, device=weight.device)
        return LiveSpeechState(0, silence, 0, None, self._encoder.initial_state())

    @torch.no_grad()
    def step(
        self, samples: np.ndarray | Tensor, state: LiveSpeechState
    ) -> tuple[Tensor, LiveSpeechState]:
        """The next samples [n], 16 kHz, also none -> the frames [m, D] that are complete.

        Raises AudioError if a sample is not finite, ValueError beyond the encoder's positions.
        """
        state = self._listen(samples, state)
        # A window is there when it needs no mirror image at its end.
        whole = (state.heard - EDGE) // HOP + 1 if state.heard > EDGE else 0
        mel, state = self._log_mel(state, whole, last=False)
        frames, encoder = self._encoder.step(mel, state.encoder)
        return frames, replace(state, encoder=encoder)

    @torch.no_grad()
    def finish(self, state: LiveSpeechState) -> Tensor:
        """The recording has ended: the frames [m, D] that were held back.

        Raises AudioError if it was shorter than half an analysis window.
        """
        if state.heard <= EDGE:
            raise AudioError(
                f"{state.heard} samples of audio: at least {EDGE + 1} are needed for one analysis "
                "window; record more than a moment"
            )
        mel, state = self._log_mel(state, mel_frames(state.heard), last=True)
        frames, encoder = self._encoder.step(mel, state.encoder)
        return torch.cat([frames, self._encoder.finish(encoder)])

    def _listen(self, samples: np.ndarray | Tensor, state: LiveSpeechState) -> LiveSpeechState:
        new = torch.as_tensor(samples, dtype=torch.float32, device=state.samples.device)
        check_finite(new.cpu().numpy())
        return replace(state, heard=state.heard + len(new), samples=torch.cat([state.samples, new]))

    def _log_mel(
        self, state: LiveSpeechState, until: int, *, last: bool
    ) -> tuple[Tensor, LiveSpeechState]:
        """The log-mel frames up to number `until`."""
        n_mels, made = self._encoder.config.n_mels, state.mel_frames
        if until <= made:
            return state.samples.new_zeros(n_mels, 0), state
        samples, first = state.samples, state.heard - len(state.samples)  # and its number
        start, end = made * HOP - EDGE, (until - 1) * HOP + EDGE
        drop = max(0, until * HOP - EDGE) - first
        # At the recording's ends its mirror image stands beside it.
        if start < 0:
            samples = torch.cat([samples[1 : EDGE + 1].flip(0), samples])
            first = -EDGE
        if last:
            samples = torch.cat([samples, samples[-EDGE - 1 : -1].flip(0)])
        log = log_energy(samples[start - first : end - first], n_mels)
        peaks, peak = running_peak(log, state.peak)
        after = replace(state, samples=state.samples[drop:], mel_frames=until, peak=peak)
        return compressed(log, peaks), after
