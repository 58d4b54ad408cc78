"""What a skill is made of, and how tables become its facts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data_tools.nano.domain.facts import NUMBERS, SPELLED, UNITS


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing to know: a readable key, the words for the templates, and the only answer."""

    key: str
    slots: dict[str, str]
    answer: str


@dataclass(frozen=True, kw_only=True)
class Skill:
    """Facts that are asked for in the same ways; every template is filled with every fact."""

    name: str
    templates: tuple[str, ...]
    facts: tuple[Fact, ...]


def sentence(text: str) -> str:
    """The text with its first letter in upper case, the others as they are."""
    return text[0].upper() + text[1:]


def bare(noun: str) -> str:
    """The noun without its article: "a polar bear" -> "polar bear"."""
    first, _, rest = noun.partition(" ")
    return rest if first in ("a", "an", "the") else noun


def article(noun: str) -> str:
    """The noun with its indefinite article, by its first letter."""
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def key(words: str) -> str:
    """The words as they stand in an id."""
    return words.lower().replace(" ", "_")


def look_up(table: dict[str, str], answer: str) -> tuple[Fact, ...]:
    """Facts x -> y; answer: a template of x, ax (x with an article) and y."""
    return tuple(
        Fact(
            key=key(bare(x)),
            slots={"x": x, "bare": bare(x), "ax": article(x)},
            answer=sentence(answer.format(x=x, ax=article(x), y=y)),
        )
        for x, y in table.items()
    )


def chat(table: dict[str, tuple[str, str]]) -> tuple[Fact, ...]:
    """Facts whose answer is the table's key, asked for in two wordings."""
    return tuple(
        Fact(key=key(first), slots={"x": first, "other": other}, answer=answer)
        for answer, (first, other) in table.items()
    )


def neighbors(cycle: Sequence[str], step: int, answer: str) -> tuple[Fact, ...]:
    """What follows (step 1) or precedes (step -1) each member of a cycle."""
    return look_up({x: cycle[(i + step) % len(cycle)] for i, x in enumerate(cycle)}, answer)


def arithmetic(pairs: Iterable[tuple[int, int]], sign: str) -> tuple[Fact, ...]:
    """Sums (sign "plus") or differences (sign "minus") of two small numbers."""
    made = []
    for a, b in pairs:
        x, y = NUMBERS[a], NUMBERS[b]
        result = NUMBERS[a + b if sign == "plus" else a - b]
        answer = sentence(f"{x} {sign} {y} is {result}.")
        made.append(Fact(key=f"{x}_{sign}_{y}", slots={"x": x, "y": y}, answer=answer))
    return tuple(made)


def count(ranges: Iterable[tuple[int, int]]) -> tuple[Fact, ...]:
    """The numbers from each first to each last, both said."""
    return tuple(
        Fact(
            key=f"{NUMBERS[first]}_to_{NUMBERS[last]}",
            slots={"x": NUMBERS[first], "y": NUMBERS[last]},
            answer=sentence(", ".join(NUMBERS[first : last + 1]) + "."),
        )
        for first, last in ranges
    )


def spelling() -> tuple[Fact, ...]:
    """The letters of each short word."""
    # Upper case and a comma make speech engines say the letter's name: "a" would be the article.
    letters = {word: ", ".join(word.upper()) for word in SPELLED}
    return look_up(letters, "{x} is spelled {y}.")


def units() -> tuple[Fact, ...]:
    """How many parts each whole has."""
    return tuple(
        Fact(
            key=f"{parts}_in_{key(bare(whole))}",
            slots={"x": parts, "y": whole},
            answer=f"There are {number} {parts} in {whole}.",
        )
        for (parts, whole), number in UNITS.items()
    )
