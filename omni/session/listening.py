"""A spoken question in the making: samples come in, and what can be encoded is encoded."""

from __future__ import annotations

from itertools import count

import numpy as np
import torch
from torch import Tensor

from omni.audio import SAMPLE_RATE, AudioError
from omni.live_speech import LiveSpeech
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor, pad_features
from omni.session.memory import Heard
from omni.values import Frames

SILENCE_RMS = 1e-4  # -80 dB of full scale: below any microphone's own noise

_numbers = count()  # of recordings, over all sessions of the process


class Listening:
    """One question while it is being spoken.

    With an encoder in blocks, `listen` makes LLM positions of every complete block; what follows
    changes none of them. An encoder that looks both ways has to wait for the end, and so has one
    that hears 30 s of padding. `ended` takes what was pushed for the whole question; if more is
    pushed, its result is dropped.
    """

    def __init__(self, model: OmniForConditionalGeneration, processor: OmniProcessor) -> None:
        self.number = next(_numbers)
        self._model = model
        self._processor = processor
        self._pieces: list[np.ndarray] = []
        self._samples = 0
        self._encoded = 0  # pieces that `listen` has taken
        self._final: list[Tensor] = []  # positions [P, H] that nothing changes any more
        self._ended: Heard | None = None
        encoder = model.speech_encoder
        in_blocks = encoder.config.block_frames is not None and not model.config.pad_to_window
        self._live = LiveSpeech(encoder) if in_blocks else None
        self._state = self._live.initial_state() if self._live is not None else None
        width = model.speech_encoder.width
        # Frames [n, D] that do not fill a stack of the adapter yet.
        self._rest = model.speech_encoder.conv1.weight.new_zeros(0, width)

    @property
    def begun(self) -> bool:
        """Whether anything was pushed."""
        return bool(self._pieces)

    @property
    def positions(self) -> int:
        """LLM positions that are final so far."""
        return sum(len(piece) for piece in self._final)

    def push(self, samples: np.ndarray) -> None:
        """The next samples [n] float32."""
        self._pieces.append(samples)
        if len(samples):
            self._samples += len(samples)
            self._ended = None

    def push_all(self, later: Listening) -> None:
        """What was pushed to another, after all that was pushed here."""
        for piece in later._pieces:
            self.push(piece)

    def recall(self, heard: Heard) -> None:
        """The whole question as it was heard before; its sound is not needed."""
        self._ended = heard

    def listen(self) -> None:
        """Encode what is complete. Does nothing beyond what the encoder can hear: that is told
        when the question has ended."""
        live, state = self._live, self._state
        too_long = self._samples > self._processor.max_seconds * SAMPLE_RATE
        new = self._pieces[self._encoded :]
        if live is None or state is None or too_long or not new:
            return
        frames, state = live.step(np.concatenate(new), state)
        positions, rest = self._adapted(torch.cat([self._rest, frames]))
        self._state, self._rest, self._encoded = state, rest, len(self._pieces)
        self._final += [positions] if len(positions) else []

    def heard(self) -> Heard:
        """The positions that are final so far."""
        return Heard(self._joined(self._final), self._labels(self.positions, 0))

    def ended(self) -> Heard:
        """The positions of what was pushed, taken for the whole question.

        Raises AudioError: nothing pushed, silence, too short, too long.
        """
        if self._ended is None:
            self._ended = self._encode_the_end()
        return self._ended

    def _encode_the_end(self) -> Heard:
        if not self._pieces:
            raise AudioError("no question: push audio or text before the reply is run")
        waveform = np.concatenate(self._pieces)
        self._processor.check(waveform)
        if float(np.sqrt(np.mean(np.square(waveform)))) < SILENCE_RMS:
            raise AudioError(
                f"{len(waveform) / SAMPLE_RATE:.1f} s of silence: no sound above {SILENCE_RMS:g} "
                "of full scale; check the microphone"
            )
        if self._live is None:
            positions = self._encode(waveform)
            return Heard(positions, self._labels(len(positions), self._samples))
        self.listen()
        assert self._state is not None
        last, _ = self._adapted(torch.cat([self._rest, self._live.finish(self._state)]))
        labels = self._labels(self.positions, 0)
        labels += self._labels(len(last), self._samples, first=self.positions)
        return Heard(self._joined([*self._final, last]), labels)

    def _encode(self, waveform: np.ndarray) -> Tensor:
        """[samples] -> positions [P, H] of the whole."""
        device = self._model.speech_adapter.linear1.weight.device
        mel = self._processor.features(waveform)
        batch = {name: value.to(device) for name, value in pad_features([mel]).items()}
        return self._model.encode_speech(**batch).sequence(0)

    def _adapted(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """[n, D] -> positions [P, H] of the complete stacks, and the frames that are left."""
        adapter = self._model.speech_adapter.config
        whole = adapter.positions(len(frames)) * adapter.stack
        if not whole:
            return frames.new_zeros(0, self._model.config.hidden_size), frames
        adapted = self._model.adapt_speech(Frames.padded([frames[:whole]]))
        return adapted.sequence(0), frames[whole:]

    def _labels(
        self, length: int, samples: int, first: int = 0
    ) -> tuple[tuple[int, int, int], ...]:
        """samples: how many the positions depend on; 0 for those that nothing changes."""
        return tuple((self.number, samples, place) for place in range(first, length + first))

    def _joined(self, positions: list[Tensor]) -> Tensor:
        if not positions:
            return self._rest.new_zeros(0, self._model.config.hidden_size)
        return torch.cat(positions)
