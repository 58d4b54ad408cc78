"""One reply in the making: tokens become text, units and chunks of sound as they come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor
from transformers import Cache

from omni.audio import SAMPLE_RATE
from omni.batching import SpeechInputs, SpeechOutput, StepInputs, StepOutput, by_itself
from omni.session.events import AudioDelta, Chunk, Done, Event, TextDelta, Timings
from omni.session.sampling import Sampling, choose
from omni.session.speaker import Speaker
from omni.session.stopping import before_stop, certain
from omni.values import Frames
from omni.vocoder import AudioChunk

Made = TypeVar("Made")


class Reply:
    """A state machine: feed `next_step_inputs` to the LLM and give its output to `read`, feed
    `speech_inputs` to the unit decoder and give its labels to `speak`, until there is no next
    step; then `finish`. Events are made while they are taken: take all of them.

    `cancel`, from any thread, is honoured before the next token, chunk or event: of what is being
    made when it comes nothing is said any more, and Done tells so.

    decode: all ids so far -> their text. embed: ids [1, n] -> embeddings [1, n, H].
    stop: texts at which the reply ends, see SessionConfig. elapsed_ms: time since the last input
    sample. cancelled: set by `cancel`; whoever has it may set it before the reply is there.
    """

    def __init__(
        self,
        prompt: StepInputs,
        *,
        decode: Callable[[Sequence[int]], str],
        end_tokens: frozenset[int],
        embed: Callable[[Tensor], Tensor],
        speaker: Speaker | None,
        sampling: Sampling,
        max_new_tokens: int,
        elapsed_ms: Callable[[], float],
        stop: Sequence[str] = (),
        cancelled: threading.Event | None = None,
    ) -> None:
        self.token_ids: list[int] = []
        self.text = ""
        self._past = prompt.past
        self._inputs: StepInputs | None = prompt
        self._decode = decode
        self._end_tokens = end_tokens
        self._embed = embed
        self._speaker = speaker
        self._speaking = speaker.initial_state() if speaker is not None else None
        self._due: SpeechInputs | None = None
        self._sampling = sampling
        self._generator = sampling.generator()
        self._max_new_tokens = max_new_tokens
        self._stop = tuple(stop)
        self._elapsed_ms = elapsed_ms
        self._encode_ms = elapsed_ms()
        self._prefill_ms = 0.0
        self._first_token_ms: float | None = None
        self._first_unit_ms: float | None = None
        self._units: list[int] = []
        self._chunks: list[Chunk] = []
        self._end: Literal["end", "length"] = "end"
        self._cancelled = cancelled or threading.Event()
        # When the listener last said what is left to play, how many seconds, and of how many.
        self._buffered: deque[tuple[float, float, float | None]] = deque(maxlen=1)

    @property
    def said_ids(self) -> list[int]:
        """The tokens of the text: all but the end token."""
        return [token for token in self.token_ids if token not in self._end_tokens]

    @property
    def cache(self) -> Cache | None:
        """Keys and values of the prompt and of what was said. They leave a batch they are in."""
        return by_itself(self._past)

    @property
    def unplayed_seconds(self) -> float | None:
        """What its listener has left to play, less than 0 since it ran out; None before the first
        chunk. By the clock, or as the listener said (`tell_buffered`)."""
        if self._speaker is None or self._speaking is None:
            return None
        return self._speaker.unplayed_seconds(self._speaking)

    def next_step_inputs(self) -> StepInputs | None:
        """What the LLM must run next; None when the reply has ended or was cancelled."""
        return None if self._cancelled.is_set() else self._inputs

    def read(self, output: StepOutput, best: int | None) -> Iterator[Event]:
        """The next token and its text. best: of the output's logits, see `best_tokens`."""
        self._past = output.past
        if self._cancelled.is_set():
            return
        token = choose(output.logits[0, -1], best, self._sampling, self._generator)
        ended = token in self._end_tokens
        last = ended or len(self.token_ids) + 1 == self._max_new_tokens
        text = self._decoded([*self.said_ids, *([] if ended else [token])], last)
        stopped = before_stop(text, self._stop)
        if stopped is not None:
            text, ended, last = stopped, True, True
        elif not last:
            text = certain(text, self._stop)
        if self._cancelled.is_set():
            return
        if self._first_token_ms is None:
            self._first_token_ms = self._elapsed_ms()
            self._prefill_ms = self._first_token_ms - self._encode_ms
        self.token_ids.append(token)
        delta, self.text = text[len(self.text) :], text
        if delta or not ended:
            yield TextDelta(delta, token)
        ids = torch.tensor([[token]], device=output.hidden.device)
        # The token that completes a stop is not spoken.
        self._due = self._speech_of(output.hidden, ids) if stopped is None else None
        if last:
            self._end = "end" if ended else "length"
            self._inputs = None
        else:
            self._inputs = StepInputs(self._embed(ids), output.past)

    def speech_inputs(self) -> SpeechInputs | None:
        """What the unit decoder must run after `read`; None if nothing, or if cancelled."""
        return None if self._cancelled.is_set() else self._due

    def speak(self, output: SpeechOutput, labels: Sequence[int]) -> Iterator[Event]:
        """The units of `speech_inputs`, and the sound now due. labels: best of each step."""
        self._due = None
        if self._speaker is None or self._speaking is None or self._cancelled.is_set():
            return
        units, self._speaking = self._speaker.merge(output.past, labels, self._speaking)
        if units and self._first_unit_ms is None:
            self._first_unit_ms = self._elapsed_ms()
        self._units += units
        if self._buffered:
            told_ms, seconds, received = self._buffered.pop()
            left = max(0.0, seconds - (self._elapsed_ms() - told_ms) / 1e3)
            if received is not None:
                made = sum(chunk.samples for chunk in self._chunks) / SAMPLE_RATE
                left += max(0.0, made - received)
            self._speaking = self._speaker.heard(self._speaking, left)
        chunks, self._speaking = self._speaker.vocode(units, self._speaking)
        yield from self._play(chunks)

    def cancel(self) -> None:
        """Say nothing more; what was said stays said. May be called from any thread."""
        self._cancelled.set()

    def tell_buffered(self, seconds: float, received: float | None = None) -> None:
        """The listener has so much of this reply left to play now. May be called from any thread.

        A schedule that paces itself ("auto") makes its next chunk by it. Without, sound is taken
        to be played from when it is made. received: seconds of this reply that had come to the
        listener by then; what was made beyond is still on its way, and will be played too. None:
        nothing is. Raises ValueError for less than 0.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds}: what is left to play must be 0 or more")
        self._buffered.append((self._elapsed_ms(), seconds, received))

    def finish(self) -> Iterator[Event]:
        """The last chunks of sound, then Done. A cancelled reply ends where it is."""
        speaker, speaking = self._speaker, self._speaking
        if speaker is not None and speaking is not None and not self._cancelled.is_set():
            yield from self._play(speaker.finish(speaking))
        self._speaking = self._due = None  # its memory is another's now
        yield self._done()

    def _decoded(self, ids: list[int], last: bool) -> str:
        whole = self._decode(ids)
        # A character may be spelled by several byte tokens: wait until it is whole.
        return whole if last else whole.rstrip("\ufffd")

    def _speech_of(self, hidden: Tensor, ids: Tensor) -> SpeechInputs | None:
        if self._speaker is None or self._speaking is None:
            return None
        # Of a forward over the prompt or one token, the last state predicts the chosen token.
        one = torch.ones(1, dtype=torch.int64, device=hidden.device)
        states = Frames(hidden[:, -1:], one)
        return self._speaker.inputs(states, ids, self._embed, self._speaking)

    def _play(self, chunks: list[AudioChunk]) -> Iterator[Event]:
        for chunk in chunks:
            if self._cancelled.is_set():
                return
            waveform = chunk.waveform
            index, said = len(self._chunks), len(self.said_ids)
            self._chunks.append(Chunk(chunk.units, len(waveform), self._elapsed_ms(), said))
            yield AudioDelta(waveform, chunk.units, index)

    def _done(self) -> Done:
        audio_ms = 1e3 * sum(chunk.samples for chunk in self._chunks) / SAMPLE_RATE
        total_ms = self._elapsed_ms()
        timings = Timings(
            encode_ms=self._encode_ms,
            prefill_ms=self._prefill_ms,
            first_token_ms=self._first_token_ms,
            first_unit_ms=self._first_unit_ms,
            first_audio_ms=self._chunks[0].at_ms if self._chunks else None,
            total_ms=total_ms,
            audio_ms=audio_ms,
            real_time_factor=total_ms / audio_ms if audio_ms else None,
        )
        reason = "cancelled" if self._cancelled.is_set() else self._end
        return Done(
            self.text, [*self.token_ids], [*self._units], [*self._chunks], timings, reason
        )  # fmt: skip


def without_gradients(events: Iterator[Made]) -> Iterator[Made]:
    """inference_mode while an event is made, and not while its receiver works on it."""
    while True:
        with torch.inference_mode():
            event = next(events, None)
        if event is None:
            return
        yield event
