"""Who speaks when: Silero's voice activity, and turns cut out of it.

A turn begins where a voice is heard for two frames together (a click is shorter), and ends after
a silence as long as the session says.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from omni.audio import SAMPLE_RATE
from omni.files import need
from serve.realtime.session_object import SemanticVad, ServerVad

FRAME = 512  # samples that the detector hears at a time, 32 ms
ONSET_FRAMES = 2
# A voice that has begun goes on until it is clearly gone; as in Silero's own example.
RELEASE = 0.15
# Silence that ends a turn where the client asks for a judgement by meaning.
EAGERNESS_MS = {"low": 1_000, "medium": 500, "auto": 500, "high": 300}
SEMANTIC_THRESHOLD = 0.5
SEMANTIC_PADDING_MS = 300

Voice = Callable[[np.ndarray], float]  # [512] float32 -> how surely it is speech, 0..1


@cache
def _silero() -> Any:
    need("onnxruntime", "serve", "voice activity detection")
    need("silero_vad", "serve", "voice activity detection")
    import torch

    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)  # importing it has set one
    return load_silero_vad(onnx=True)


def silero() -> Voice:
    """A detector with a memory of its own; the weights are loaded once."""
    import torch

    # Its memory is replaced with every frame, never written into: a shallow copy shares the rest.
    detector = copy.copy(_silero())
    detector.reset_states()
    return lambda frame: float(detector(torch.from_numpy(frame), SAMPLE_RATE))


@dataclass(frozen=True, kw_only=True)
class TurnRules:
    """When a turn begins and ends. Lengths in samples at 16 kHz."""

    threshold: float
    padding: int
    silence: int

    @classmethod
    def of(cls, detection: ServerVad | SemanticVad) -> TurnRules:
        """What a session's turn detection means here."""
        if isinstance(detection, SemanticVad):
            silence_ms, padding_ms = EAGERNESS_MS[detection.eagerness], SEMANTIC_PADDING_MS
            threshold = SEMANTIC_THRESHOLD
        else:
            silence_ms, padding_ms = detection.silence_duration_ms, detection.prefix_padding_ms
            threshold = detection.threshold
        per_ms = SAMPLE_RATE // 1000
        return cls(threshold=threshold, padding=padding_ms * per_ms, silence=silence_ms * per_ms)


@dataclass(frozen=True)
class Started:
    """Somebody has begun to speak, `at` samples into the stream."""

    at: int


@dataclass(frozen=True)
class Stopped:
    """The turn has ended, `at` samples into the stream, after so many samples without a voice;
    voice: samples from its first to its last voice."""

    at: int
    silence: int
    voice: int


class TurnDetector:
    """A stream of sound -> beginnings and ends of turns."""

    def __init__(self, rules: TurnRules, voice: Voice) -> None:
        self.rules = rules
        self._voice = voice
        self._rest = np.empty(0, np.float32)
        self._heard = 0  # samples
        self._voiced = 0  # frames with a voice, one after the other
        self._first_voice = 0  # samples; of the turn
        self._last_voice = 0
        self.speaking = False

    def hear(self, samples: np.ndarray) -> list[Started | Stopped]:
        """The next piece, of any length."""
        found: list[Started | Stopped] = []
        self._rest = np.concatenate([self._rest, samples])
        while len(self._rest) >= FRAME:
            frame, self._rest = self._rest[:FRAME], self._rest[FRAME:]
            change = self._frame(np.ascontiguousarray(frame))
            found += [change] if change is not None else []
        return found

    def end_turn(self) -> None:
        """The turn was ended by somebody else; a voice that goes on begins another."""
        self.speaking, self._voiced = False, 0

    def _frame(self, frame: np.ndarray) -> Started | Stopped | None:
        self._heard += FRAME
        surely = self._voice(frame)
        release = max(self.rules.threshold - RELEASE, 0.01)
        voiced = surely >= (release if self.speaking else self.rules.threshold)
        self._voiced = self._voiced + 1 if voiced else 0
        if voiced:
            self._last_voice = self._heard
        if not self.speaking and self._voiced >= ONSET_FRAMES:
            self.speaking = True
            self._first_voice = self._heard - ONSET_FRAMES * FRAME
            return Started(self._first_voice)
        if self.speaking and self._heard - self._last_voice >= self.rules.silence and not voiced:
            self.end_turn()
            silence = self._heard - self._last_voice
            return Stopped(self._heard, silence, self._last_voice - self._first_voice)
        return None
