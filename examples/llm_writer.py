"""A writer for the data tools: what turns written questions into spoken ones, and answers them.

    python examples/llm_writer.py

This one only adds a word of politeness. A real one asks an LLM for all requests of a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data_tools.writers import WRITERS, Reply, Request, writer_config


@dataclass(frozen=True, kw_only=True)
class PoliteConfig:
    """What a recipe may set; frozen, so that it can travel to another process."""

    word: str = "please"
    batch_size: int = 8  # records at a time
    workers: int | None = None  # None: all cores
    device: str = "cpu"

    @property
    def label(self) -> str:
        return "polite"

    def settings(self) -> dict[str, Any]:
        """What the replies depend on: with other settings a text is written anew."""
        return asdict(self)

    def build(self) -> "Polite":
        return Polite(self)


class Polite:
    """A `data_tools.writers.Writer`."""

    def __init__(self, config: PoliteConfig) -> None:
        self.config = config

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(index of the request, text), each as soon as it is there and in any order."""
        for index, request in enumerate(requests):
            question = request.source or request.messages[-1].content
            yield index, f"{question.rstrip('?.')}, {self.config.word}?"

    def close(self) -> None:
        """Nothing keeps running."""


WRITERS["polite"] = lambda: PoliteConfig  # from now on `--writer polite` and recipes know it

if __name__ == "__main__":
    writer = writer_config("polite", word="kindly").build()
    asked = Request(task="rewrite", key="1", language="en", source="What time is it?", messages=())
    for _, text in writer.complete([asked]):
        print(text)
