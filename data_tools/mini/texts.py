"""Short questions and instructions of openly licensed sets, as someone would say them.

Nothing of them is part of this project: they are read from the hub, or from a folder of files.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.sources import file_rows, hub_rows
from data_tools.writers import spoken
from omni.files import UserError

WORDS = (3, 14)  # of a question
PLAIN = re.compile(r"[A-Za-z][A-Za-z',.?! -]*")
NAMES = 4  # words of the longest name that is looked for
OFTEN = 3  # answers that a name of one word must be


@dataclass(frozen=True, kw_only=True)
class TextSet:
    """One set: where it is, and which of its fields hold what.

    name: how the file of it begins that `--texts DIR` takes. hub: its id, None if it is only
    published as a file. search: typed into a search engine, so in lower case without marks.
    only: fields, and the values that a row must have there.
    """

    name: str
    hub: str | None
    hub_split: str
    licence: str
    question: tuple[str, ...]
    answers: tuple[str, ...] = ()
    search: bool = False
    only: tuple[tuple[str, tuple[Any, ...]], ...] = ()


SETS = (
    TextSet(
        name="webquestions",
        hub="stanfordnlp/web_questions",
        hub_split="train",
        licence="CC BY 4.0",
        question=("qText", "question"),
        answers=("answers",),
        search=True,
    ),
    TextSet(
        name="nq-open",
        hub="google-research-datasets/nq_open",
        hub_split="validation",
        licence="CC BY-SA 3.0",
        question=("question",),
        answers=("answer",),
        search=True,
    ),
    TextSet(
        name="nq-efficientqa",
        hub=None,  # google-research-datasets/natural-questions on GitHub
        hub_split="",
        licence="CC BY-SA 3.0",
        question=("question",),
        answers=("answer",),
        search=True,
    ),
    TextSet(
        name="self-instruct-seeds",
        hub=None,  # yizhongw/self-instruct on GitHub
        hub_split="",
        licence="Apache-2.0",
        question=("instruction",),
    ),
    TextSet(
        name="databricks-dolly-15k",
        hub="databricks/databricks-dolly-15k",
        hub_split="train",
        licence="CC BY-SA 3.0",
        question=("instruction",),
        only=(("context", ("",)), ("category", ("open_qa", "general_qa"))),
    ),
    TextSet(
        name="oasst2",
        hub="OpenAssistant/oasst2",
        hub_split="train",
        licence="Apache-2.0",
        question=("text",),
        only=(("role", ("prompter",)), ("parent_id", (None,)), ("lang", ("en",))),
    ),
)


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """gold: the set's own answers, by which it is told what a language model knows."""

    text: str
    gold: tuple[str, ...]
    source: str
    licence: str


def questions_in(folder: Path) -> list[OpenQuestion]:
    """Of all files in a folder whose names begin as a set's. Raises UserError if there is none."""
    found = [
        (text_set, path)
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        for text_set in SETS
        if path.name.startswith(text_set.name) and path.suffix in (".json", ".jsonl", ".parquet")
    ]
    if not found:
        names = ", ".join(text_set.name for text_set in SETS)
        raise UserError(f"{folder}: holds no .json, .jsonl or .parquet that begins as {names}")
    rows = [(text_set, [row for _, row in file_rows(path)]) for text_set, path in found]
    return aloud(rows)


def questions_of_hub() -> list[OpenQuestion]:
    """Of every set that the hub has. Raises UserError if it can't be reached."""
    rows = [
        (text_set, [row for _, row in hub_rows(text_set.hub, split=text_set.hub_split)])
        for text_set in SETS
        if text_set.hub is not None
    ]
    return aloud(rows)


def aloud(sets: Sequence[tuple[TextSet, Sequence[Mapping[str, Any]]]]) -> list[OpenQuestion]:
    """Each question once, in order, without those that are long or can't be said."""
    read = [
        (text_set, field(row, text_set.question), golden(row, text_set))
        for text_set, rows in sets
        for row in rows
        if fits(row, text_set)
    ]
    names = name_table(
        (answer for _, _, gold in read for answer in gold), [text for _, text, _ in read]
    )
    found: dict[str, OpenQuestion] = {}
    for text_set, text, gold in read:
        question = spoken(cased(text, names) if text_set.search else text)
        if text_set.search:
            question = question.rstrip(".?!") + "?"
        if PLAIN.fullmatch(question) and WORDS[0] <= len(question.split()) <= WORDS[1]:
            found.setdefault(
                question.casefold(),
                OpenQuestion(
                    text=question,
                    gold=gold,
                    source=text_set.hub or text_set.name,
                    licence=text_set.licence,
                ),
            )
    return list(found.values())


def fits(row: Mapping[str, Any], text_set: TextSet) -> bool:
    """Whether it is asked without a text to read with it, and is of those that are wanted."""
    given = [instance.get("input") for instance in row.get("instances") or ()]
    return not any(given) and all(row.get(name) in values for name, values in text_set.only)


def field(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of these fields that is a text. Raises UserError if there is none."""
    for name in names:
        if isinstance(row.get(name), str):
            return row[name].strip()
    raise UserError(f"fields {sorted(row)}: none of {', '.join(names)} is a text; rename one")


def golden(row: Mapping[str, Any], text_set: TextSet) -> tuple[str, ...]:
    """The set's own answers to the row's question; none if the set has no answers."""
    return tuple(str(answer) for name in text_set.answers for answer in row.get(name) or ())


def name_table(answers: Iterable[str], questions: Sequence[str]) -> dict[str, str]:
    """Names in lower case -> as the sets' own answers write them.

    A single word counts if several answers are that word and no question puts an article before
    it: "China", and not "Singer".
    """
    found: dict[str, str] = {}
    single: Counter[str] = Counter()
    for answer in answers:
        words = answer.split()
        if words and len(words) <= NAMES and all(word[:1].isupper() for word in words):
            if len(words) > 1:
                found.setdefault(answer.lower(), answer)
            else:
                single[answer] += 1
    asked = " ".join(questions).lower()
    nouns = set(re.findall(r"\b(?:a|an|the) ([a-z]+)", asked))
    for word, count in single.items():
        if count >= OFTEN and len(word) > 3 and word.lower() not in nouns:
            found[word.lower()] = word
    return found


def cased(text: str, names: Mapping[str, str]) -> str:
    """With a capital at the start, in names that are known, and in "I"."""
    words = text.split()
    place, written = 0, list[str]()
    while place < len(words):
        for length in range(min(NAMES, len(words) - place), 0, -1):
            heard = " ".join(words[place : place + length]).lower()
            name = names.get(heard.removesuffix("?").removesuffix("'s"))
            if name is not None:
                written.append(name + ("'s" if "'s" in heard[-3:] else ""))
                place += length
                break
        else:
            written.append(re.sub(r"^i(?=$|')", "I", words[place]))
            place += 1
    return " ".join(written)


def as_rows(questions: Iterable[OpenQuestion]) -> Iterator[dict[str, Any]]:
    """For a file that a resumed run reads instead."""
    for question in questions:
        yield {**vars(question), "gold": list(question.gold)}


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[OpenQuestion]:
    """The questions that `as_rows` wrote."""
    return [
        OpenQuestion(
            text=row["text"],
            gold=tuple(row["gold"]),
            source=row["source"],
            licence=row["licence"],
        )
        for row in rows
    ]
