"""Turn: a question, its prompt and the reply to it, which belong together from the start."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from omni.prompt import Message
from omni.session.memory import Heard, Memory
from omni.session.question import Question
from omni.session.reply import Reply
from omni.session.script import Script


@dataclass(frozen=True, eq=False)
class Turn:
    """What `SpeechSession.begin` gives and `remember` takes: no answer lands elsewhere.

    asked: what was pushed; question: as the conversation will hold it; heard: its adapted speech,
    None if it was written; script: the prompt; reply: the state machine.
    """

    asked: Question
    question: Message
    heard: Heard | None
    script: Script
    reply: Reply

    @property
    def speech(self) -> Tensor | None:
        """[P, H]: the adapted speech of the question; None if it was written."""
        return None if self.heard is None else self.heard.positions

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """All that the LLM is fed before it answers."""
        return self.script.ids

    def memory(self) -> Memory:
        """The reply's keys and values, of the prompt and of what was said."""
        # The last token said may have been fed or not: the cache itself knows.
        return Memory.of(self.reply.cache, [*self.script.labels, *self.reply.token_ids])
