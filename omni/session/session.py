"""SpeechSession: one conversation, as a stream of events.

`begin` lays out the prompt and gives a `Turn`, whose reply is a state machine; `run` is the
loop around it. A `Stepper` makes the forwards of one reply as of many; an engine that serves many
sessions steps the turns of all of them with one.

Work is done ahead, while the user speaks: see `push_audio` and `speculate`. What comes of it is
what would have come of the question given whole.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any
from weakref import WeakSet

import numpy as np
import torch

from omni.audio import AudioError
from omni.batching import StepInputs
from omni.language_model import end_tokens
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.prompt import Message, control_tokens, without_control_tokens
from omni.session.config import SessionConfig
from omni.session.events import Done, Event
from omni.session.memory import Heard, Memory
from omni.session.prefill import Prefill
from omni.session.question import Question
from omni.session.reply import Reply, without_gradients
from omni.session.script import Room, Script, spoken_in, write_script
from omni.session.speaker import build_speaker
from omni.session.stepping import Stepper
from omni.session.turn import Turn


class SpeechSession:
    """Ask by voice or text; hear and read the answer while it is made. Turns are remembered.

    One reply runs at a time, and the newest question wins: beginning it cancels the reply before,
    which stays in the conversation as far as it was said. A question is taken when `ask`, `run`
    or `begin` is called, so one that nobody listens to is remembered with an empty answer. A
    question that is refused, and a reply that fails, leave the conversation as it was.

    A conversation that outgrows the language model's positions loses its oldest questions and
    their answers, by the rule of omni.session.script.Room.

    `cancel` may be called from any thread; the rest belongs to one thread at a time. Sessions of
    one model share its weights, and the keys and values of what every conversation begins with.
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
        positions: int = getattr(text_config, "max_position_embeddings", sys.maxsize)
        self._room = Room(positions, self._config.max_new_tokens)
        self._ends = end_tokens(model.generation_config, processor.tokenizer.eos_token_id)
        self._speaker = build_speaker(model, self._config, clock)
        self._stepper = Stepper(model)
        self._begun: WeakSet[Turn] = WeakSet()
        # What `cancel` sets: of the newest reply, and of one that is being laid out. Always
        # replaced as a whole, so that another thread sees both or one, and never none.
        self._cancels: tuple[threading.Event, ...] = ()
        self._prefill = Prefill(model, processor)
        self.reset()

    def reset(self) -> None:
        """Forget the conversation. A reply that runs is cancelled and forgotten with it."""
        self.cancel()
        self.history: list[Message] = []
        self._heard: list[Heard] = []  # of each spoken turn
        self._prefill.memory = Memory()
        self._open: Turn | None = None  # begun, and not yet part of the conversation
        self._question = Question(self._model, self._processor)

    def push_audio(self, samples: np.ndarray) -> None:
        """More of the question: [n] float, 16 kHz mono, -1..1. Raises AudioError for others.

        A question is spoken or written: audio takes the place of text that was pushed before.

        What can be done now is not left for the question's end. With an encoder in blocks
        (`block_frames`) each complete block is encoded, and unless a reply runs the LLM reads it;
        with any other the LLM reads what stands before the speech.
        """
        asked = self._question
        asked.hear(samples)
        with torch.inference_mode():
            asked.listening.listen()
            if self._open is None and asked.read != asked.listening.positions:
                script = self._script(*asked.so_far())
                self._read(script, len(script.labels))
                asked.read = asked.listening.positions

    def push_text(self, text: str) -> None:
        """A written question, in place of all that was pushed before. ValueError if empty."""
        self._question.write(text)

    @torch.inference_mode()
    def speculate(self) -> None:
        """Get ready for the question to end here: encode what was pushed, and unless a reply
        runs let the LLM read all but the prompt's last position.

        To be called at a short pause, of 100 ms or so. If nothing more is pushed, `begin` and
        `run` use the work; else it is dropped, and nothing is as if it had been. Where there is
        nothing to be ready for (silence, too short, too long, text) it does nothing.
        """
        if self._question.text is not None:
            return
        try:
            question, heard = self._question.ended()
        except AudioError:
            return  # that is `begin`'s to tell, if nothing more comes
        if self._open is None:
            script = self._script(question, heard)
            self._read(script, len(script.ids) - 1)

    def _read(self, script: Script, end: int) -> None:
        """Let the LLM read the script ahead, if there will be room for a reply."""
        if len(script.ids) < self._room.positions:
            self._prefill.run(script, end)

    def cancel(self) -> None:
        """Stop the reply that runs before its next token, chunk or event; from any thread.

        From the moment `ask`, `run` or `begin` is called a reply runs, also before its first
        event. Where none runs nothing happens, and the next reply is not touched.
        """
        for cancelled in self._cancels:
            cancelled.set()

    def ask(self, question: np.ndarray | str) -> Generator[Event]:
        """Push one whole question and answer it; see `run`.

        Nothing is done ahead of it, so the reply's timings tell all that an answer takes.
        """
        if isinstance(question, str):
            self.push_text(question)
        else:
            self._question.hear(question)
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
            while turn.reply.next_step_inputs() is not None:
                for _, event in self._stepper.step([turn.reply]):
                    if isinstance(event, Exception):
                        raise event
                    yield event
            for event in without_gradients(turn.reply.finish()):
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
        by `remember`; one that is still open is cancelled and remembered now. At a pause that may
        not be the question's end, run the reply and hold its events back: then either release
        them and `remember`, or `reopen`.
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
        asked, self._question = self._question, Question(self._model, self._processor)
        question, heard = asked.ended()
        script = self._script(question, heard)
        room = self._room.positions - len(script.ids)
        if room < 1:
            raise ValueError(
                f"question: {len(script.ids)} positions, the language model has "
                f"{self._room.positions}; ask something shorter"
            )
        # Nothing can be refused any more: the newer question wins.
        for older in before:
            older.set()
        if self._open is not None:
            self.remember(self._open)
        # At least one position must be run now: its state predicts the first token.
        cache, known = self._prefill.take(script.labels[:-1])
        reply = Reply(
            StepInputs(script.embeddings(self._model, known), cache),
            decode=self._processor.decode,
            end_tokens=self._ends,
            embed=self._model.embed_tokens,
            speaker=self._speaker,
            sampling=self._config.sampling,
            max_new_tokens=min(self._config.max_new_tokens, room),
            elapsed_ms=lambda: 1e3 * (self._clock() - started),
            stop=self._config.stop,
            cancelled=cancelled,
        )
        self._open = Turn(asked, question, heard, script, reply)
        self._begun.add(self._open)
        return self._open

    def _script(self, question: Message, heard: Heard | None) -> Script:
        """The prompt of a question, behind the conversation and the turn that is open."""
        history, before = self._with(self._open)
        before += [heard] if heard is not None else []
        return write_script(self._processor, history, before, question, self._room)

    def remember(self, turn: Turn) -> None:
        """Make the turn part of the conversation, and keep its keys and values for the next.

        A reply that has not ended is cancelled. A turn counts once: one that is remembered, or
        forgotten, stays so. Raises ValueError for a turn of another session.
        """
        if self._closes(turn):
            if turn.reply.next_step_inputs() is not None:
                turn.reply.cancel()
            self.history, self._heard = self._with(turn)
            self._prefill.give(turn.memory())

    def forget(self, turn: Turn) -> None:
        """The turn never was: after an error, the conversation is as before it.

        Like `remember`, it counts once. Raises ValueError for a turn of another session.
        """
        if self._closes(turn):
            turn.reply.cancel()

    def reopen(self, turn: Turn) -> None:
        """The turn never was, and its question goes on: the user had only paused.

        Its audio stands before what was pushed since, as if `begin` had not been called; text
        that was pushed since takes its place. Counts once, as `forget` does.
        """
        if self._closes(turn):
            turn.reply.cancel()
            self._prefill.give(turn.memory())
            self._question = turn.asked.going_on(self._question)

    def _closes(self, turn: Turn) -> bool:
        """Whether the turn was still open; it no longer is."""
        if turn not in self._begun:
            raise ValueError("turn: begun by another session; give it to that one")
        if turn is not self._open:
            return False
        self._open = None
        return True

    def _with(self, turn: Turn | None) -> tuple[list[Message], list[Heard]]:
        """Messages and recordings of the conversation and of a turn that follows."""
        messages, recordings = [*self.history], [*self._heard]
        if turn is not None:
            reply, dropped = turn.reply, turn.script.dropped
            recordings = recordings[spoken_in(messages[:dropped]) :]
            # By its tokens: the text may spell what would steer the model, or be split otherwise.
            control = control_tokens(self._processor.tokenizer)
            ids = without_control_tokens(reply.said_ids, control)
            answer = Message(role="assistant", text=reply.text, ids=ids)
            messages = [*messages[dropped:], turn.question, answer]
            recordings += [turn.heard] if turn.heard is not None else []
        return messages, recordings
