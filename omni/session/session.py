"""SpeechSession: one conversation, as a stream of events.

`begin` lays out the prompt and gives a `Turn`, whose reply is a state machine; `run` is the
single-session loop around it. An engine that serves many sessions steps the same turns with
batched forwards.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from omni.audio import SAMPLE_RATE, AudioError
from omni.language_model import end_tokens, run_language_model
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor, pad_features
from omni.prompt import Message, without_control_tokens
from omni.session.config import SessionConfig
from omni.session.events import Done, Event
from omni.session.reply import Reply, StepInputs
from omni.session.speaker import build_speaker
from omni.session.turn import Turn
from omni.values import Frames

SILENCE_RMS = 1e-4  # -80 dB of full scale: below any microphone's own noise


class SpeechSession:
    """Ask by voice or text; hear and read the answer while it is made. Turns are remembered.

    One reply runs at a time, and the newest question wins: beginning it cancels the reply before,
    which stays in the conversation as far as it was said. A question is taken when `ask`, `run`
    or `begin` is called, so one that nobody listens to is remembered with an empty answer. A
    question that is refused, and a reply that fails, leave the conversation as it was.

    `cancel` may be called from any thread; the rest belongs to one thread at a time. Sessions of
    one model share its weights and nothing else.
    """

    def __init__(
        self,
        model: OmniForConditionalGeneration,
        processor: OmniProcessor,
        config: SessionConfig | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """config: None takes what the checkpoint says, by SessionConfig.from_model."""
        self._model = model
        self._processor = processor
        self._config = config or SessionConfig.from_model(model)
        self._clock = clock
        text_config = model.language_model.config.get_text_config()
        self._max_positions: int = getattr(text_config, "max_position_embeddings", sys.maxsize)
        self._ends = end_tokens(model.generation_config, processor.tokenizer.eos_token_id)
        self._speaker = build_speaker(model, self._config)
        self._begun: WeakSet[Turn] = WeakSet()
        # What `cancel` sets: of the newest reply, and of one that is being laid out. Always
        # replaced as a whole, so that another thread sees both or one, and never none.
        self._cancels: tuple[threading.Event, ...] = ()
        self.reset()

    def reset(self) -> None:
        """Forget the conversation. A reply that runs is cancelled and forgotten with it."""
        self.cancel()
        self.history: list[Message] = []
        self._speech: list[Tensor] = []  # adapted speech [P, H] of each spoken turn
        self._cache: Cache | None = None
        self._cached_ids: list[int] = []  # what the cache holds keys and values of
        self._audio: list[np.ndarray] = []
        self._text: str | None = None
        self._open: Turn | None = None  # begun, and not yet part of the conversation

    def push_audio(self, samples: np.ndarray) -> None:
        """More of the question: [n] float, 16 kHz mono, -1..1. Raises AudioError for others.

        A question is spoken or written: audio takes the place of text that was pushed before.
        """
        samples = np.asarray(samples)
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(
                f"samples: {list(samples.shape)} {samples.dtype}, must be [n] floats in -1..1 at "
                f"{SAMPLE_RATE} Hz; omni.audio.load_audio and prepare give these"
            )
        self._text = None
        self._audio.append(samples.astype(np.float32))

    def push_text(self, text: str) -> None:
        """A written question, in place of all that was pushed before. ValueError if empty."""
        if not text.strip():
            raise ValueError(f"text={text!r}: a question needs at least one word")
        self._audio, self._text = [], text.strip()

    def cancel(self) -> None:
        """Stop the reply that runs before its next token, chunk or event; from any thread.

        From the moment `ask`, `run` or `begin` is called a reply runs, also before its first
        event. Where none runs nothing happens, and the next reply is not touched.
        """
        for cancelled in self._cancels:
            cancelled.set()

    def ask(self, question: np.ndarray | str) -> Generator[Event]:
        """Push one question and answer it; see `run`."""
        if isinstance(question, str):
            self.push_text(question)
        else:
            self.push_audio(question)
        return self.run()

    def run(self) -> Generator[Event]:
        """Answer what was pushed: TextDelta and AudioDelta as they come, Done at the end.

        The question is taken and encoded now, and raises now what `begin` raises. Whoever stops
        listening (closes or drops the iterator) cancels the reply. The iterator of a reply that a
        newer one has cancelled goes on with Done.
        """
        events = self._answer(self.begin())
        next(events)  # to its first mark: from here on closing it counts, before any event too
        return events

    def _answer(self, turn: Turn) -> Generator[Any]:
        try:
            yield None  # the mark of `run`
            while (inputs := turn.reply.next_step_inputs()) is not None:
                with torch.inference_mode():
                    output = run_language_model(
                        self._model.language_model, inputs.embeddings, cache=inputs.cache,
                        use_cache=True,
                    )  # fmt: skip
                yield from _without_gradients(turn.reply.accept(output))
            for event in _without_gradients(turn.reply.finish()):
                if isinstance(event, Done):
                    self.remember(turn)
                yield event
        except GeneratorExit:  # the listener has gone; what was said stays said
            self.remember(turn)
            raise
        except BaseException:
            self.forget(turn)
            raise

    @torch.inference_mode()
    def begin(self) -> Turn:
        """Encode what was pushed and lay out the prompt: the turn whose reply is to be run.

        The clock of the reply's timings starts here. The turn becomes part of the conversation
        by `remember`; one that is still open is cancelled and remembered now.
        Raises AudioError (nothing pushed, silence, too short, too long) and ValueError (control
        tokens in the text, more than the language model has positions for). Such a question is
        dropped; the conversation, and a reply that runs, stay as they were.
        """
        before, cancelled = self._cancels, threading.Event()
        self._cancels = (*before, cancelled)
        try:
            turn = self._lay_out(cancelled, before)
        except BaseException:
            self._cancels = before
            raise
        self._cancels = (cancelled,)
        return turn

    def _lay_out(self, cancelled: threading.Event, before: tuple[threading.Event, ...]) -> Turn:
        started = self._clock()
        question, speech = self._take_question()
        history, recordings = self._with(self._open)
        recordings += [speech] if speech is not None else []
        ids = self._processor.prompt([*history, question]).ids
        room = self._max_positions - len(ids)
        if room < 1:
            raise ValueError(
                f"conversation: {len(ids)} positions, the language model has {self._max_positions};"
                " reset the session or ask something shorter"
            )
        device = self._model.language_model.device
        frames = Frames.padded(recordings) if recordings else None
        embeddings = self._model.embed_prompt(torch.tensor([ids], device=device), frames)
        # Nothing can be refused any more: the newer question wins.
        for older in before:
            older.set()
        if self._open is not None:
            self.remember(self._open)
        cache, known = self._take_cache(ids)
        reply = Reply(
            StepInputs(embeddings[:, known:], cache),
            decode=self._processor.decode,
            end_tokens=self._ends,
            embed=self._model.embed_tokens,
            speaker=self._speaker,
            sampling=self._config.sampling,
            max_new_tokens=min(self._config.max_new_tokens, room),
            elapsed_ms=lambda: 1e3 * (self._clock() - started),
            cancelled=cancelled,
        )
        self._open = Turn(question, speech, tuple(ids), reply)
        self._begun.add(self._open)
        return self._open

    def remember(self, turn: Turn) -> None:
        """Make the turn part of the conversation, and keep its keys and values for the next.

        A reply that has not ended is cancelled. A turn counts once: one that is remembered, or
        forgotten, stays so. Raises ValueError for a turn of another session.
        """
        if self._closes(turn):
            if turn.reply.next_step_inputs() is not None:
                turn.reply.cancel()
            self.history, self._speech = self._with(turn)
            self._cache, self._cached_ids = turn.cached()

    def forget(self, turn: Turn) -> None:
        """The turn never was: after an error, the conversation is as before it.

        Like `remember`, it counts once. Raises ValueError for a turn of another session.
        """
        if self._closes(turn):
            turn.reply.cancel()

    def _closes(self, turn: Turn) -> bool:
        """Whether the turn was still open; it no longer is."""
        if turn not in self._begun:
            raise ValueError("turn: begun by another session; give it to that one")
        if turn is not self._open:
            return False
        self._open = None
        return True

    def _with(self, turn: Turn | None) -> tuple[list[Message], list[Tensor]]:
        """Messages and recordings of the conversation and of a turn that follows."""
        messages, recordings = [*self.history], [*self._speech]
        if turn is not None:
            reply = turn.reply
            # By its tokens: the text may spell what would steer the model, or be split otherwise.
            ids = without_control_tokens(reply.said_ids, self._processor.tokenizer)
            messages += [turn.question, Message(role="assistant", text=reply.text, ids=ids)]
            recordings += [turn.speech] if turn.speech is not None else []
        return messages, recordings

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
        if cache is None:
            return None, 0
        # At least one position must be run again: its state predicts the first token.
        known = _common_prefix(cached, ids[:-1])
        if known < len(cached):
            cache.crop(known - len(cached))  # negative: so many positions go
        return cache, known


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
