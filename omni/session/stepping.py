"""Stepper: what the running replies of a model need next, in as few forwards as it takes.

One reply is the smallest case. The LLM steps all of them in one forward, then the unit decoder all
of those that it made a token for; choosing tokens and making sound is each reply's own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

import torch

from omni.batching import LanguageModelSteps, SpeechInputs, UnitDecoderSteps
from omni.model import OmniForConditionalGeneration
from omni.session.events import Event
from omni.session.reply import Reply

Output = TypeVar("Output")


class Stepper:
    """Steps replies of one model; it belongs to one thread."""

    def __init__(self, model: OmniForConditionalGeneration) -> None:
        self._language_model = LanguageModelSteps(model.language_model)
        decoder = model.unit_decoder
        self._unit_decoder = UnitDecoderSteps(decoder) if decoder is not None else None

    @property
    def one_by_one(self) -> str | None:
        """Why the LLM steps replies one by one; None where it steps them together."""
        return self._language_model.one_by_one

    @property
    def nbytes(self) -> int:
        """Memory of the buffers in which replies are stepped together."""
        decoder = self._unit_decoder
        return self._language_model.nbytes + (decoder.nbytes if decoder is not None else 0)

    def rest(self) -> None:
        """Nothing runs for now: replies take their states along, and the buffers are given back."""
        self._language_model.run([])
        if self._unit_decoder is not None:
            self._unit_decoder.run([])

    @torch.inference_mode()
    def step(self, replies: Sequence[Reply]) -> Iterator[tuple[Reply, Event | Exception]]:
        """One token of each reply that has not ended, as events; take all of them.

        Replies may join and leave from step to step, in any order. Events of one reply come in
        their order. What fails in the work of one is told of that one, and is its end.
        """
        asked = [
            (reply, inputs) for reply in replies if (inputs := reply.next_step_inputs()) is not None
        ]
        read = self._language_model.run([inputs for _, inputs in asked])
        due: list[tuple[Reply, SpeechInputs]] = []
        for (reply, _), output in zip(asked, read, strict=True):
            goes_on = yield from _told(reply, output, reply.read)
            if goes_on and (inputs := reply.speech_inputs()) is not None:
                due.append((reply, inputs))
        if self._unit_decoder is None:
            return
        spoken = self._unit_decoder.run([inputs for _, inputs in due])
        for (reply, _), output in zip(due, spoken, strict=True):
            yield from _told(reply, output, reply.speak)


def _told(
    reply: Reply, output: Output | Exception, take: Callable[[Output], Iterator[Event]]
) -> Generator[tuple[Reply, Event | Exception], None, bool]:
    """The events that the reply makes of this, or why there are no more; whether it goes on."""
    try:
        if isinstance(output, Exception):
            raise output
        for event in take(output):
            yield reply, event
    except Exception as error:
        yield reply, error
        return False
    return True
