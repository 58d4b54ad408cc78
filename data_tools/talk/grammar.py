"""Sentences from patterns: `[Hi|Hello|] {person} likes {food}.`

`[a|b|]` is one of its choices, `{slot}` one of the slot's words. A slot's table maps the words of
the speaker to those of the answer: "my sister" -> "your sister".
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

CHOICE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")
ASKS = re.compile(r"(?:hey, )?(?:can|could|would|will) you\b", re.IGNORECASE)
TRIES = 40  # draws without a new sentence before a pattern counts as used up

Tables = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Talk:
    """One thing that people say, and what is answered.

    ways: patterns of training. validation, test: patterns that training has nothing like. answers:
    patterns with the same slots, one of them drawn; empty where a language model has to write it.
    """

    skill: str
    ways: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    def patterns(self, split: str) -> tuple[str, ...]:
        """The patterns of a split: train, validation or test."""
        return {"train": self.ways, "validation": self.validation, "test": self.test}[split]


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """answer: empty where a language model has to write it."""

    skill: str
    template: str
    text: str
    answer: str


def slots(*lines: str) -> dict[str, str]:
    """A table of words that the answer repeats as they are; lines hold them with commas between."""
    words = (word.strip() for line in lines for word in line.split(","))
    return {word: word for word in words if word}


def draw(pattern: str, tables: Tables, rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """A sentence, and the words of its slots as the answer says them."""
    while choice := CHOICE.search(pattern):
        options = choice[1].split("|")
        chosen = options[rng.integers(len(options))]
        pattern = pattern[: choice.start()] + chosen + pattern[choice.end() :]
    values: dict[str, str] = {}
    said: dict[str, str] = {}
    for name in SLOT.findall(pattern):
        if name not in said:
            words = list(tables[name])
            said[name] = words[rng.integers(len(words))]
            values[name] = tables[name][said[name]]
    return sentence(SLOT.sub(lambda slot: said[slot[1]], pattern)), values


def sentence(text: str) -> str:
    """With single spaces, none before a mark, a capital at each start, and its question mark."""
    text = re.sub(r"\s+([.,?!])", r"\1", " ".join(text.split()))
    text = re.sub(r"^[ ,]+", "", text)
    if ASKS.match(text) and text.endswith("."):
        text = text[:-1] + "?"
    return re.sub(r"(^|[.?!] )(\w)", lambda start: start[1] + start[2].upper(), text)


def sentences(talk: Talk, split: str, tables: Tables, *, seed: int) -> Iterator[Sentence]:
    """Different ones, pattern by pattern in turn, until the patterns are used up."""
    rng = np.random.default_rng([seed, *hashlib.sha256(f"{split}/{talk.skill}".encode()).digest()])
    open_patterns = list(talk.patterns(split))
    seen: set[str] = set()
    while open_patterns:
        for pattern in list(open_patterns):
            for _ in range(TRIES):
                text, values = draw(pattern, tables, rng)
                if text.casefold() not in seen:
                    break
            else:
                open_patterns.remove(pattern)
                continue
            seen.add(text.casefold())
            answer = ""
            if talk.answers:
                answer = replied(talk, values, rng)
            yield Sentence(
                skill=talk.skill,
                template=f"{talk.skill}/{pattern_name(pattern)}",
                text=text,
                answer=answer,
            )


def replied(talk: Talk, values: Mapping[str, str], rng: np.random.Generator) -> str:
    """One of the answers that fit, rather one that says what was understood."""
    fitting = [answer for answer in talk.answers if set(SLOT.findall(answer)) <= values.keys()]
    telling = [answer for answer in fitting if SLOT.search(answer)] or fitting
    if not telling:
        raise ValueError(f"skill {talk.skill}: no answer fits {sorted(values)}; add one")
    drawn = telling[rng.integers(len(telling))]
    return sentence(SLOT.sub(lambda slot: values[slot[1]], drawn))


def pattern_name(pattern: str) -> str:
    """A pattern's name: it stays if others come or go."""
    return hashlib.sha256(pattern.encode()).hexdigest()[:8]
