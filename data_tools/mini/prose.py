"""Sentences of prose to be said back: of plain texts, and of the examples in WordNet's files.

Nothing of them is part of this project: they are read from files that the user has.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_tools.writers import spoken
from omni.files import UserError, open_text

WORDS = (5, 18)  # of a sentence
# Letters alone, so that it is spoken as it is written: no digits, quotations or brackets.
PLAIN = re.compile(r"[A-Z][A-Za-z]*(?:['-][A-Za-z]+)*(?:,? [A-Za-z]+(?:['-][A-Za-z]+)*)*\.")
INITIALS = re.compile(r"[A-Z]{2}|\b(?![AIO]\b)[A-Z]\b(?!')")  # said letter by letter
NEAR = 5  # words in a row that only one sentence has
SENTENCE = re.compile(r"(?<=[.!?])[\"')]*\s+")
CURLY = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")

# Debian's package `wordnet-base` has them in /usr/share/wordnet.
WORDNET = ("data.noun", "data.verb", "data.adj", "data.adv")
WORDNET_LICENCE = "WordNet 3.0"
EXAMPLE = re.compile(r'"([^"]+)"')
COARSE = re.compile(r"offensive|obscen|vulgar|slur\b|derogat|disparag|taboo|sexual")
# Examples of verbs are clauses. Of the others half are phrases: a clause has one of these words,
# and has it before a relative one, or it may be that of "a man who was tired".
CLAUSE = re.compile(
    r"\b(?:i|you|he|she|it|we|they|there|am|is|are|was|were|has|have|had|do|does|did|will|would|"
    r"can|could|cannot|may|might|shall|should|must|\w+n't|\w+'(?:m|re|ll|ve|d))\b",
    re.IGNORECASE,
)
RELATIVE = re.compile(r" (?:who|whom|whose|which|that|what|where|as|than)\b")


@dataclass(frozen=True, kw_only=True)
class ProseSentence:
    """A statement of 5 to 18 words, and where it is from."""

    text: str
    source: str
    licence: str


def prose_in(path: Path) -> list[ProseSentence]:
    """Of a file, or of all .txt and WordNet files in a folder, each in UTF-8; no near duplicates.

    Raises UserError if there is no such file, or none of its sentences can be taken.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [file for file in files if file.suffix == ".txt" or file.name in WORDNET]
    if not all(file.is_file() for file in found) or not found:
        raise UserError(
            f"{path}: is no .txt and none of {', '.join(WORDNET)}, nor a folder of such"
        )
    kept = list(without_near([sentence for file in found for sentence in sentences_of(file)]))
    if not kept:
        raise UserError(
            f"{path}: no statement of {WORDS[0]} to {WORDS[1]} plain words; take other texts"
        )
    return kept


def sentences_of(file: Path) -> Iterator[ProseSentence]:
    """All that can be spoken as it is written. Raises UserError if the file isn't UTF-8."""
    with open_text(file) as opened:
        text = opened.read()
    if file.name in WORDNET:
        source, licence, read = "wordnet", WORDNET_LICENCE, examples(text, file.name)
    else:
        source, licence, read = file.stem, "not told", statements(text)
    for sentence in read:
        if said_as_written(sentence):
            yield ProseSentence(text=sentence, source=source, licence=licence)


def statements(text: str) -> Iterator[str]:
    """The sentences of a plain text; paragraphs have empty lines between them."""
    for paragraph in re.split(r"\n\s*\n", text.translate(CURLY)):
        sentences = SENTENCE.split(" ".join(paragraph.split()))
        for before, sentence in pairwise(["", *sentences]):
            # What follows "Mr." or "J." is no beginning.
            last = before.rpartition(" ")[2]
            if not last or (len(last) > 2 and spoken(last).casefold() == last.casefold()):
                yield sentence


def examples(text: str, name: str) -> Iterator[str]:
    """What stands in quotes in the glosses of one of WordNet's files, if it reads as a clause."""
    for line in text.splitlines():
        gloss = line.partition(" | ")[2]
        if COARSE.search(gloss):
            continue
        for example in EXAMPLE.findall(gloss):
            whole = " ".join(example.split()).rstrip(".")
            if name == "data.verb" or CLAUSE.search(RELATIVE.split(whole)[0]):
                yield f"{whole[:1].upper()}{whole[1:]}."


def said_as_written(sentence: str) -> bool:
    """Whether it is a statement of plain words that is read out as it stands."""
    return (
        WORDS[0] <= len(sentence.split()) <= WORDS[1]
        and PLAIN.fullmatch(sentence) is not None
        and not INITIALS.search(sentence)
        and spoken(sentence) == sentence
    )


def without_near(sentences: Iterable[ProseSentence]) -> Iterator[ProseSentence]:
    """In order, without those that share five words in a row with one before."""
    seen: set[tuple[str, ...]] = set()
    for sentence in sentences:
        words = re.findall(r"[a-z'-]+", sentence.text.lower())
        runs = {tuple(words[at : at + NEAR]) for at in range(len(words) - NEAR + 1)}
        if not runs & seen:
            yield sentence
        seen |= runs


def as_rows(sentences: Iterable[ProseSentence]) -> Iterator[dict[str, Any]]:
    """For a file that a resumed run reads instead."""
    return map(asdict, sentences)


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[ProseSentence]:
    """The sentences that `as_rows` wrote."""
    return [ProseSentence(**row) for row in rows]
