"""Stepper: what the running replies of a model need next, in as few forwards as it takes.

One reply is the smallest case. The LLM steps all of them in one forward, then the unit decoder all
of those that it made a token for; choosing tokens and making sound is each reply's own. What comes
of a forward is read back from a GPU at once for all of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate

import torch

from omni.batching import LanguageModelSteps, SpeechInputs, SpeechOutput, UnitDecoderSteps
from omni.ctc import best_labels
from omni.model import OmniForConditionalGeneration
from omni.session.events import Event
from omni.session.reply import Reply
from omni.session.sampling import best_tokens


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
        made = [output for output in read if not isinstance(output, Exception)]
        best = iter(best_tokens([output.logits[0, -1] for output in made]))
        due: list[tuple[Reply, SpeechInputs]] = []
        for (reply, _), output in zip(asked, read, strict=True):
            if isinstance(output, Exception):
                yield reply, output
                continue
            goes_on = yield from _told(reply, reply.read(output, next(best)))
            if goes_on and (inputs := reply.speech_inputs()) is not None:
                due.append((reply, inputs))
        if self._unit_decoder is None:
            return
        spoken = self._unit_decoder.run([inputs for _, inputs in due])
        labels = iter(_labels([one for one in spoken if not isinstance(one, Exception)]))
        for (reply, _), output in zip(due, spoken, strict=True):
            if isinstance(output, Exception):
                yield reply, output
            else:
                yield from _told(reply, reply.speak(output, next(labels)))


def _labels(outputs: Sequence[SpeechOutput]) -> list[list[int]]:
    """The best label of each step, read back from the device at once."""
    rows = [best_labels(output.log_probs)[0] for output in outputs]
    together = torch.cat(rows).tolist() if rows else []
    ends = accumulate(len(row) for row in rows)
    return [together[end - len(row) : end] for row, end in zip(rows, ends, strict=True)]


def _told(
    reply: Reply, events: Iterator[Event]
) -> Generator[tuple[Reply, Event | Exception], None, bool]:
    """The events of a reply, or why there are no more; whether it goes on."""
    try:
        for event in events:
            yield reply, event
    except Exception as error:
        yield reply, error
        return False
    return True
