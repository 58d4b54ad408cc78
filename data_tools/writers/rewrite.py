"""Text instructions -> spoken instructions: every question as someone would ask it aloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_tools.manifest import Record, RecordTurn
from data_tools.steps import LeftOut
from data_tools.writers.base import ChatMessage, Reply, Request
from data_tools.writers.step import PROMPTS, TextStep, filled, open_writer, read_prompt, replies_to

MAX_WORDS = 60  # about 20 s; the published set's questions last 7.5 s on average


@dataclass(frozen=True, kw_only=True)
class RewriteStep(TextStep):
    """Rewrites every user turn that has no recording; one that has is spoken already.

    prompt: text with {instruction}. max_words: a longer question leaves its record out, as a
    part of a question is another question.
    """

    prompt: str = field(default_factory=lambda: read_prompt(PROMPTS / "rewrite.txt"))
    max_words: int = MAX_WORDS
    name: str = "rewrite"

    def size(self, record: Record, root: Path) -> float:
        """All alike."""
        return 0.0

    def open(self, root: Path) -> RewriteWork:
        """A worker that keeps replies below `root`."""
        return RewriteWork(self, root)


class RewriteWork:
    """One worker's writer."""

    def __init__(self, step: RewriteStep, root: Path) -> None:
        self.step = step
        self.writer = open_writer(step.writer, root)

    def __call__(self, records: Sequence[Record]) -> list[Record | LeftOut]:
        """All questions of the records are asked of the writer at once."""
        places = [
            (place, number)
            for place, record in enumerate(records)
            for number, turn in enumerate(record.turns)
            if turn.role == "user" and turn.speech is None
        ]
        requests = [self.request(records[place], number) for place, number in places]
        replies: list[dict[int, Reply]] = [{} for _ in records]
        for (place, number), reply in zip(places, replies_to(self.writer, requests), strict=True):
            replies[place][number] = reply
        return [self.rewritten(*pair) for pair in zip(records, replies, strict=True)]

    def close(self) -> None:
        """Closes the writer."""
        self.writer.close()

    def request(self, record: Record, number: int) -> Request:
        """The number-th turn's text, put to the writer by the prompt."""
        text = record.turns[number].text
        prompt = filled(self.step.prompt, instruction=text, language=record.language)
        return Request(
            task="rewrite",
            key=f"{record.id}/{number}",
            language=record.language,
            source=text,
            messages=(ChatMessage(role="user", content=prompt),),
        )

    def rewritten(self, record: Record, replies: dict[int, Reply]) -> Record | LeftOut:
        """The record with these replies (turn -> reply) in place, or the first fault of one."""
        turns = list(record.turns)
        for number, reply in replies.items():
            fault = reply.reason if isinstance(reply, LeftOut) else self.fault(reply)
            if fault:
                return LeftOut(f"turn {number + 1}: {fault}")
            turns[number] = RecordTurn(role="user", text=str(reply))
        if not replies:
            return record
        provenance = record.provenance | {"rewritten_by": self.step.writer.label}
        return replace(record, turns=tuple(turns), provenance=provenance)

    def fault(self, text: str) -> str:
        """Why a reply is no question to ask aloud; "" if it is one."""
        words = len(text.split())
        if not words:
            return "nothing to say"
        long = words > self.step.max_words
        return f"{words} words, at most {self.step.max_words} are asked aloud" if long else ""
