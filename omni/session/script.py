"""The prompt of a turn, position by position: what the LLM reads, and what is left out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.prompt import Message
from omni.session.memory import Heard, Label
from omni.values import Frames


@dataclass(frozen=True)
class Room:
    """How long a conversation may grow, in LLM positions, and what is dropped beyond.

    The rule: where the prompt and an answer (`answer` tokens, at most a quarter of all positions)
    no longer fit, the oldest questions are dropped with their answers, until the prompt takes no
    more than half of the positions. The system prompt and the newest question stay. Half, for the
    LLM has to read anew what is left, and so it seldom has to.
    """

    positions: int
    answer: int

    def holds(self, prompt: int) -> bool:
        """Whether a prompt of this length leaves room for an answer."""
        return prompt + min(self.answer, self.positions // 4) <= self.positions


@dataclass(frozen=True)
class Script:
    """A prompt. ids: all of it; labels: what stands there, as far as it has been said: all of it,
    or up to the first position of speech that is still to come.

    speech: the positions of all that was spoken, in order; dropped: so many messages of the
    conversation's beginning are left out.
    """

    ids: tuple[int, ...]
    labels: tuple[Label, ...]
    speech: tuple[Tensor, ...]  # each [P, H]
    dropped: int

    def embeddings(
        self, model: OmniForConditionalGeneration, start: int, end: int | None = None
    ) -> Tensor:
        """[1, n, H]: what the LLM reads from position `start` on."""
        ids, slot = self.ids[start:end], model.config.speech_token_id
        before, new = self.ids[:start].count(slot), ids.count(slot)
        speech = None
        if new:
            values = torch.cat(self.speech)[None, before : before + new]  # [1, n, H]
            speech = Frames(values, torch.tensor([new], device=values.device))
        rows = torch.tensor([ids], device=model.language_model.device)
        return model.embed_prompt(rows, speech)


def write_script(
    processor: OmniProcessor,
    history: Sequence[Message],
    heard: Sequence[Heard],
    question: Message,
    room: Room,
) -> Script:
    """The prompt of a conversation and a question.

    heard: of each spoken message, in order. The question's may be shorter than its positions say,
    if it is still being spoken. Raises ValueError for control tokens in the question's text.
    """
    ids, dropped = _fitting(processor, history, question, room)
    spoken = spoken_in(history[:dropped])
    kept = heard[spoken:]
    said = chain.from_iterable(one.labels for one in kept)
    labels: list[Label] = []
    for token in ids:
        label = next(said, None) if token == processor.audio_token_id else token
        if label is None:
            break
        labels.append(label)
    speech = tuple(one.positions for one in kept)
    return Script(tuple(ids), tuple(labels), speech, dropped)


def _fitting(
    processor: OmniProcessor, history: Sequence[Message], question: Message, room: Room
) -> tuple[list[int], int]:
    """The ids of the prompt, and how many messages of the history are dropped from its front.

    Prompts are tried from the newest turn on, twice as many turns each time and then halfway
    between: so the work is bounded by the LLM's positions, however long the conversation is.
    """

    def without(dropped: int) -> list[int]:
        return processor.prompt([*history[dropped:], question]).ids

    if room.holds(sum(map(_least_positions, history))):
        ids = without(0)
        if not history or room.holds(len(ids)):
            return ids, 0
    most = room.positions // 2
    dropped, too_few = len(history), 0  # with these dropped it fits, or nothing does
    ids = without(dropped)
    turns = 1
    while len(ids) <= most and dropped - too_few > 2:  # a question and its answer
        trial = len(history) - 2 * turns
        if trial <= too_few:  # between what is known
            trial = too_few + (dropped - too_few) // 4 * 2
        made = without(trial)
        if len(made) <= most:
            ids, dropped = made, trial
        else:
            too_few = trial
        turns *= 2
    return ids, dropped


def _least_positions(message: Message) -> int:
    """A bound that asks no tokenizer: every word, token and place of a recording is a position."""
    if message.positions is not None:
        return message.positions
    return len(message.ids) if message.ids is not None else min(1, len(message.text))


def spoken_in(messages: Sequence[Message]) -> int:
    """How many of the messages were spoken."""
    return sum(message.positions is not None for message in messages)


def opening(processor: OmniProcessor) -> tuple[int, ...]:
    """The ids that stand before the first question's speech, in every conversation."""
    ids = processor.prompt([Message(role="user", positions=1)]).ids
    return tuple(ids[: ids.index(processor.audio_token_id)])
