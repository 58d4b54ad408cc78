"""The writer that needs no model: written text -> spoken text by rules, the same each time.

It rewords questions and trims answers that a data set has; it can't answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data_tools.steps import LeftOut
from data_tools.writers.base import Reply, Request, Writer
from data_tools.writers.spoken_text import holds_code, spoken
from omni.files import UserError

FILLERS = ("Hey,", "So,", "Um,", "Uh,", "Well,", "Okay,", "Hi there,", "Alright,")
ORDERS = frozenset(
    "add answer arrange brainstorm build calculate categorize change check choose classify come "
    "compare compose compute convert count create define describe design determine develop discuss "
    "draft edit estimate evaluate explain fill find generate give help identify imagine invent "
    "list make mention name offer outline paraphrase pick plan predict prepare propose provide "
    "rank read recommend replace rewrite say select share show sort suggest summarize tell think "
    "translate turn use write".split()
)
QUESTIONS = frozenset(
    "what who whom whose when where why which how is are was were do does did can could will would "
    "should may has have in on at if for please the a an".split()
)


@dataclass(frozen=True, kw_only=True)
class RulesConfig:
    """seed: together with record and turn it draws the changes. fillers, politeness: share of the
    questions that begin with a filler, and of the orders that become "Can you ...?"."""

    seed: int = 0
    fillers: float = 0.3
    politeness: float = 0.3
    batch_size: int = 256
    label: str = "rules"

    def __post_init__(self) -> None:
        for name in ("fillers", "politeness"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)}: is a share, from 0 to 1")

    @property
    def workers(self) -> int | None:
        """One per core: rules keep one busy."""
        return None

    @property
    def device(self) -> str:
        """The CPU, which rules run on."""
        return "cpu"

    def settings(self) -> dict[str, Any]:
        """Seed and shares."""
        values = asdict(self)
        del values["batch_size"], values["label"]
        return {"writer": "rules", **values}

    def build(self) -> Writer:
        """A writer that needs nothing loaded."""
        return RuleWriter(self)


class RuleWriter:
    """Writes by rules alone: what can be read out, questions begun as people begin them."""

    def __init__(self, config: RulesConfig) -> None:
        self.config = config

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """As `Writer.complete`, in order."""
        for index, request in enumerate(requests):
            yield index, self.reply(request)

    def close(self) -> None:
        """Holds nothing."""

    def reply(self, request: Request) -> Reply:
        """The source text as it is said; LeftOut if there is none, or code in it."""
        if request.source is None:
            return LeftOut("has no answer, and rules can't give one: take a language model")
        if holds_code(request.source):
            return LeftOut("holds code, which can't be spoken")
        text = spoken(request.source, request.language)
        if request.task == "respond" or request.language != "en":
            return text  # the fillers are English
        return self.as_asked(text, random.Random(f"{self.config.seed}/{request.key}"))

    def as_asked(self, text: str, draw: random.Random) -> str:
        """An English question with "Can you" or a filler before it, as `draw` decides."""
        polite, filled = draw.random() < self.config.politeness, draw.random() < self.config.fillers
        filler = draw.choice(FILLERS)
        first, _, rest = text.partition(" ")
        if polite and rest and first.lower() in ORDERS and re.search(r"[.!?]", text) is not None:
            order, end, more = re.split(r"([.!?])", text, maxsplit=1)
            text = f"Can you {order[0].lower()}{order[1:]}{'?' if end == '.' else end}{more}"
            first = "Can"
        if filled and text:
            plain = first.lower() in ORDERS | QUESTIONS  # anything else may be a name
            text = f"{filler} {text[0].lower() if plain else text[0]}{text[1:]}"
        return text
