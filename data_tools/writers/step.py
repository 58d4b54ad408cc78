"""What `rewrite` and `respond` share: the prompt's file, the writer, and how a reply is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.writers.base import CachedWriter, Reply, Request, Writer, WriterConfig
from data_tools.writers.rules import RulesConfig
from data_tools.writers.spoken_text import spoken
from omni.files import UserError, open_text

PROMPTS = Path(__file__).parent / "prompts"
REPLIES = ".replies.jsonl"  # in the output's folder: what LLMs said, kept over all runs there
THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class TextStep:
    """A step that a writer does, told what to do by a prompt."""

    writer: WriterConfig = field(default_factory=RulesConfig)
    prompt: str
    max_words: int

    def __post_init__(self) -> None:
        if self.max_words < 1:
            raise UserError(f"max_words={self.max_words}: must be at least 1")

    @property
    def batch_size(self) -> int:
        """The writer's."""
        return self.writer.batch_size

    @property
    def workers(self) -> int | None:
        """The writer's."""
        return self.writer.workers

    @property
    def device(self) -> str:
        """The writer's."""
        return self.writer.device

    def settings(self) -> dict[str, Any]:
        """The writer's settings, prompt and max_words."""
        writer = self.writer.settings()
        return {"writer": writer, "prompt": self.prompt, "max_words": self.max_words}


def read_prompt(path: str | Path) -> str:
    """The text of a prompt file. Raises UserError if it has no place for the instruction."""
    with open_text(path) as file:
        text = file.read().strip()
    if "{instruction}" not in text:
        raise UserError(f"{path}: must hold {{instruction}}, where the instruction goes; write it")
    return text


def filled(prompt: str, **values: str) -> str:
    """The prompt with {name} replaced, in one pass: braces in a text stay what they are."""
    names = "|".join(map(re.escape, values))
    return re.sub(rf"\{{({names})\}}", lambda match: values[match[1]], prompt)


def open_writer(config: WriterConfig, root: Path) -> Writer:
    """Rules are quicker than a look into the cache; what an LLM says is kept."""
    settings = config.settings()
    writer = config.build()
    return (
        writer if settings["writer"] == "rules" else CachedWriter(writer, settings, root / REPLIES)
    )


def replies_to(writer: Writer, requests: Sequence[Request]) -> list[Reply]:
    """In the order of the requests, as they can be spoken; an LLM may forget what it was told."""
    replies: dict[int, Reply] = {}
    for index, reply in writer.complete(requests):
        language = requests[index].language
        replies[index] = sayable(reply, language) if isinstance(reply, str) else reply
    return [replies[index] for index in range(len(requests))]


def sayable(reply: str, language: str) -> str:
    """An LLM's reply without its thoughts, as it can be spoken."""
    return spoken(THOUGHTS.sub("", reply).strip(), language)
