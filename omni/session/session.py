"""SpeechSession: one conversation, as a stream of events.

`begin` lays out the prompt and gives a `Reply`, a state machine; `run` is the single-session loop
around it. An engine that serves many sessions runs the same replies with batched forwards.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache, DynamicLayer

from omni.audio import SAMPLE_RATE, AudioError
from omni.language_model import end_tokens, run_language_model
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor, pad_features
from omni.prompt import Message
from omni.session.events import Event
from omni.session.reply import Reply, StepInputs
from omni.session.sampling import Sampling
from omni.session.speaker import Speaker
from omni.values import Frames
from omni.vocoder import AUTO, ChunkSchedule, StreamContext, StreamingVocoder

SILENCE_RMS = 1e-4  # -80 dB of full scale: below any microphone's own noise


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """How a session answers.

    schedule: units per chunk of speech. right_context_frames: what the vocoder waits for after a
    chunk; None takes the vocoder's own recommendation. speak=False: text and units, no sound.
    """

    schedule: ChunkSchedule = AUTO
    right_context_frames: int | None = None
    crossfade_ms: float = 5.0
    max_new_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    speak: bool = True

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens}: must be at least 1")


class SpeechSession:
    """Ask by voice or text; hear and read the answer while it is made. Turns are remembered."""

    def __init__(
        self,
        model: OmniForConditionalGeneration,
        processor: OmniProcessor,
        config: SessionConfig | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._processor = processor
        self._config = config or SessionConfig()
        self._clock = clock
        text_config = model.language_model.config.get_text_config()
        self._max_positions: int = getattr(text_config, "max_position_embeddings", sys.maxsize)
        self._ends = end_tokens(model.generation_config, processor.tokenizer.eos_token_id)
        self._speaker = build_speaker(model, self._config)
        self._cancelled = threading.Event()
        self.reset()

    def reset(self) -> None:
        """Forget the conversation."""
        self.history: list[Message] = []
        self._speech: list[Tensor] = []  # adapted speech [P, H] of each spoken turn
        self._cache: Cache | None = None
        self._cached_ids: list[int] = []  # what the cache holds keys and values of
        self._audio: list[np.ndarray] = []
        self._text: str | None = None

    def push_audio(self, samples: np.ndarray) -> None:
        """More of the question: [n] float, 16 kHz mono, -1..1. Raises AudioError for others."""
        samples = np.asarray(samples)
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(
                f"samples: {list(samples.shape)} {samples.dtype}, must be [n] floats in -1..1 at "
                f"{SAMPLE_RATE} Hz; omni.audio.load_audio and prepare give these"
            )
        self._audio.append(samples.astype(np.float32))

    def push_text(self, text: str) -> None:
        """A written question, in place of what was pushed before. Raises ValueError if empty."""
        if not text.strip():
            raise ValueError(f"text={text!r}: a question needs at least one word")
        self._audio, self._text = [], text.strip()

    def cancel(self) -> None:
        """Stop the reply that runs before its next token; may be called from any thread."""
        self._cancelled.set()

    def ask(self, question: np.ndarray | str) -> Iterator[Event]:
        """Push one question and answer it."""
        if isinstance(question, str):
            self.push_text(question)
        else:
            self.push_audio(question)
        return self.run()

    def run(self) -> Iterator[Event]:
        """Answer what was pushed: TextDelta and AudioDelta as they come, Done at the end.

        Whoever stops listening (closes the iterator) cancels the reply.
        """
        self._cancelled.clear()  # now, not at the first event: a cancel between the two counts
        return self._answer()

    def _answer(self) -> Iterator[Event]:
        reply, prompt_ids = self.begin()
        try:
            yield from self._say(reply)
        except GeneratorExit:  # the listener has gone; what was said stays said
            self.remember(reply, prompt_ids)
            raise
        self.remember(reply, prompt_ids)
        yield from _without_gradients(reply.finish())

    def _say(self, reply: Reply) -> Iterator[Event]:
        while (inputs := reply.next_step_inputs()) is not None:
            if self._cancelled.is_set():
                reply.cancel()
                break
            with torch.inference_mode():
                output = run_language_model(
                    self._model.language_model, inputs.embeddings, cache=inputs.cache,
                    use_cache=True,
                )  # fmt: skip
            yield from _without_gradients(reply.accept(output))

    @torch.inference_mode()
    def begin(self) -> tuple[Reply, list[int]]:
        """Encode what was pushed and lay out the prompt: the reply to run, and its prompt's ids.

        The clock of the reply's timings starts here. The turn becomes part of the conversation
        by `remember`. Raises AudioError (nothing pushed, silence, too short, too long) and
        leaves the conversation as it was.
        """
        started = self._clock()
        message, speech = self._take_question()
        messages = [*self.history, message]
        recordings = [*self._speech, *([speech] if speech is not None else [])]
        ids = self._processor.prompt(messages).ids
        room = self._max_positions - len(ids)
        if room < 1:
            raise ValueError(
                f"conversation: {len(ids)} positions, the language model has {self._max_positions};"
                " reset the session or ask something shorter"
            )
        cache, known = self._take_cache(ids)
        device = self._model.language_model.device
        frames = _as_frames(recordings) if recordings else None
        embeddings = self._model.embed_prompt(torch.tensor([ids], device=device), frames)
        self._asked = messages, recordings
        reply = Reply(
            StepInputs(embeddings[:, known:], cache),
            decode=self._processor.decode,
            end_tokens=self._ends,
            embed=lambda token: self._model.embed_prompt(token, None),
            speaker=self._speaker,
            sampling=self._config.sampling,
            max_new_tokens=min(self._config.max_new_tokens, room),
            elapsed_ms=lambda: 1e3 * (self._clock() - started),
        )
        return reply, ids

    def remember(self, reply: Reply, prompt_ids: list[int]) -> None:
        """Make the turn part of the conversation, and keep its keys and values for the next."""
        messages, self._speech = self._asked
        self.history = [*messages, Message(role="assistant", text=reply.text)]
        if reply.token_ids:
            self._cache = reply.cache
            # The last token was said but never fed.
            self._cached_ids = [*prompt_ids, *reply.token_ids[:-1]]

    def _take_question(self) -> tuple[Message, Tensor | None]:
        audio, text = self._audio, self._text
        self._audio, self._text = [], None
        if text is not None:
            return Message(role="user", text=text), None
        if not audio:
            raise AudioError("no question: push audio or text before the reply is run")
        waveform = np.concatenate(audio)
        mel = self._processor.features(waveform)
        if float(np.sqrt(np.mean(np.square(waveform)))) < SILENCE_RMS:
            seconds = len(waveform) / SAMPLE_RATE
            raise AudioError(
                f"{seconds:.1f} s of silence: no sound above {SILENCE_RMS:g} of full scale; check "
                "the microphone"
            )
        device = self._model.speech_adapter.linear1.weight.device
        batch = {name: value.to(device) for name, value in pad_features([mel]).items()}
        speech = self._model.encode_speech(**batch).sequence(0)
        return Message(role="user", positions=speech.shape[0]), speech

    def _take_cache(self, ids: list[int]) -> tuple[Cache | None, int]:
        """The cache of the turns before, cut to what this prompt shares with it, and its length.

        It is the reply's from now on: a forward that fails leaves it half written.
        """
        cache, cached = self._cache, self._cached_ids
        self._cache, self._cached_ids = None, []
        # Only plain layers keep every position, and so can be cut back.
        if cache is None or any(type(layer) is not DynamicLayer for layer in cache.layers):
            return None, 0
        # At least one position must be run again: its state predicts the first token.
        known = _common_prefix(cached, ids[:-1])
        if known < len(cached):
            cache.crop(known - len(cached))  # negative: so many positions go
        return cache, known


def build_speaker(model: OmniForConditionalGeneration, config: SessionConfig) -> Speaker | None:
    """The model's voice under this configuration; None before stage 2."""
    if model.unit_decoder is None:
        return None
    vocoder = model.vocoder if config.speak else None
    if vocoder is None:
        return Speaker(model.unit_decoder, None)
    context = replace(
        StreamContext.recommended(vocoder),
        crossfade_samples=round(config.crossfade_ms * SAMPLE_RATE / 1000),
    )
    if config.right_context_frames is not None:
        context = replace(context, right_context_frames=config.right_context_frames)
    return Speaker(model.unit_decoder, StreamingVocoder(vocoder, config.schedule, context))


def _common_prefix(first: list[int], second: list[int]) -> int:
    """How many ids the two have in common from the start."""
    pairs = enumerate(zip(first, second, strict=False))
    unlike = (place for place, (a, b) in pairs if a != b)
    return next(unlike, min(len(first), len(second)))


def _without_gradients(events: Iterator[Event]) -> Iterator[Event]:
    """inference_mode while an event is made, and not while its receiver works on it."""
    while True:
        with torch.inference_mode():
            event = next(events, None)
        if event is None:
            return
        yield event


def _as_frames(recordings: list[Tensor]) -> Frames:
    """[P, H] each -> one padded batch."""
    lengths = torch.tensor([len(recording) for recording in recordings])
    values = nn.utils.rnn.pad_sequence(recordings, batch_first=True)
    return Frames(values, lengths.to(values.device))
