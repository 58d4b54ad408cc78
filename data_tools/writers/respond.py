"""Spoken instructions -> responses that are concise and that a synthesiser can say.

With the base model's own LLM as the writer this is self-distillation: it learns to hear, and keeps
what it knew and what it refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_tools.manifest import Record, RecordTurn
from data_tools.steps import LeftOut
from data_tools.writers.base import ChatMessage, Reply, Request
from data_tools.writers.spoken_text import first_sentences
from data_tools.writers.step import PROMPTS, TextStep, filled, open_writer, read_prompt, replies_to

MAX_WORDS = 100  # about 37 s; the published set's responses last 19 s on average


@dataclass(frozen=True, kw_only=True)
class RespondStep(TextStep):
    """Answers every user turn; an answer that has a recording stays.

    prompt: text with {instruction} and, to offer the written answer to the LLM, {answer}. Earlier
    turns go before it as the chat that they are. max_words: a longer response ends with its last
    whole sentence within them; the record is left out if there is none.
    """

    prompt: str = field(default_factory=lambda: read_prompt(PROMPTS / "respond.txt"))
    max_words: int = MAX_WORDS
    name: str = "respond"

    def size(self, record: Record, root: Path) -> float:
        """Turns: a batch takes as many rounds as its longest dialogue."""
        return len(record.turns)  # a batch takes as many rounds as its longest dialogue

    def open(self, root: Path) -> RespondWork:
        """A worker that keeps replies below `root`."""
        return RespondWork(self, root)


class RespondWork:
    """One worker's writer."""

    def __init__(self, step: RespondStep, root: Path) -> None:
        self.step = step
        self.writer = open_writer(step.writer, root)

    def __call__(self, records: Sequence[Record]) -> list[Record | LeftOut]:
        """Round by round: the second question is answered knowing the first answer."""
        results: list[Record | LeftOut] = list(records)
        rounds = max((len(record.turns) + 1) // 2 for record in records)
        for number in range(rounds):
            asked = [
                (place, record)
                for place, record in enumerate(results)
                if isinstance(record, Record) and is_to_answer(record, number)
            ]
            requests = [self.request(record, number) for _, record in asked]
            replies = replies_to(self.writer, requests)
            for (place, record), reply in zip(asked, replies, strict=True):
                results[place] = self.answered(record, number, reply)
        return results

    def close(self) -> None:
        """Closes the writer."""
        self.writer.close()

    def request(self, record: Record, number: int) -> Request:
        """The number-th question; what comes before it is answered by now."""
        question, written = record.turns[2 * number], answer_of(record, number)
        history = [
            ChatMessage(role=turn.role, content=turn.text) for turn in record.turns[: 2 * number]
        ]
        prompt = filled(
            self.step.prompt,
            instruction=question.text,
            answer=written.text if written else "",
            language=record.language,
        )
        return Request(
            task="respond",
            key=f"{record.id}/{2 * number + 1}",
            language=record.language,
            source=written.text if written else None,
            messages=(*history, ChatMessage(role="user", content=prompt)),
        )

    def answered(self, record: Record, number: int, reply: Reply) -> Record | LeftOut:
        """The record with the reply as the answer to its number-th question, or why not."""
        place = 2 * number + 1
        if isinstance(reply, LeftOut):
            return LeftOut(f"turn {place + 1}: {reply.reason}")
        text = first_sentences(reply, self.step.max_words)
        if not text:
            limit = f"its first sentence has more than {self.step.max_words} words"
            return LeftOut(f"turn {place + 1}: {limit if reply else 'nothing to say'}")
        turns = list(record.turns)
        turns[place : place + 1] = [RecordTurn(role="assistant", text=text)]
        provenance = record.provenance | {"answered_by": self.step.writer.label}
        return replace(record, turns=tuple(turns), provenance=provenance)


def answer_of(record: Record, number: int) -> RecordTurn | None:
    """The answer to the number-th question, which the last one may lack."""
    place = 2 * number + 1
    return record.turns[place] if place < len(record.turns) else None


def is_to_answer(record: Record, number: int) -> bool:
    """Whether there is a number-th question whose answer has no recording."""
    written = answer_of(record, number)
    return 2 * number < len(record.turns) and (written is None or written.speech is None)
