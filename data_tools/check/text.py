"""Checks that need no sound: pairing, what can be said, language, duplicates, leakage."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

from data_tools.check.findings import Finding
from data_tools.manifest import WRITTEN_TURNS, Record
from data_tools.sources import asked
from data_tools.speech import can_be_said, is_sound

MARKUP = {
    "an address": re.compile(r"https?://|www\.|\S+@\S+\.\w"),
    "code": re.compile(r"```|`[^`]+`|\\\w+\{|</?\w+>"),
    "a list or heading": re.compile(r"^\s*(?:[-*•]|#+|\d+[.)])\s", re.MULTILINE),
    "emphasis marks": re.compile(r"\*\*|__"),
}
SIGNS = frozenset("%$€£¥&+°")  # symbols that every engine has a word for
MARKUP_SIGNS = frozenset("@#*_/\\[]{}")
SCRIPTS = {
    "zh": {"CJK"},
    "ja": {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"},
    "ko": {"HANGUL", "CJK"},
    "ru": {"CYRILLIC"},
    "uk": {"CYRILLIC"},
    "ar": {"ARABIC"},
    "el": {"GREEK"},
    "he": {"HEBREW"},
    "hi": {"DEVANAGARI"},
    "th": {"THAI"},
}
COMMON_WORDS = {
    "en": "the of and to is in that it you for are what how with this was do does i a an on not",
    "es": "el la de que y en los las un una es por con para como está qué cuál del",
    "fr": "le la les de des et est un une que qui dans pour vous je quelle quel du au",
    "de": "der die das und ist nicht ein eine zu den von mit wie was ich sie auf im",
    "it": "il lo la di che e un una per è non sono come con quale gli della del",
    "pt": "o a os as de que e um uma em para não com é qual como do da dos",
}
WORDS = {language: frozenset(words.split()) for language, words in COMMON_WORDS.items()}
FEW_WORDS = 8  # in a shorter text common words prove nothing


def text_findings(records: Sequence[Record]) -> list[Finding]:
    """All that can be told from the texts, record by record and between records."""
    found = [finding for record in records for finding in record_findings(record)]
    return [*found, *pairing(records), *duplicates(records), *leakage(records)]


def record_findings(record: Record) -> Iterator[Finding]:
    """What is wrong with one record by itself."""
    if record.turns[-1].role != "assistant":
        yield Finding(rule="no answer", record=record.id, detail="ends with the user's turn")
    for number, turn in enumerate(record.turns, start=1):
        if is_sound(turn.voice):
            continue
        if not turn.text.strip():
            yield Finding(rule="no text", record=record.id, turn=number, detail="empty text")
        elif trouble := unspeakable(turn.text):
            yield Finding(
                rule="unspeakable",
                record=record.id,
                turn=number,
                detail=f"holds {', '.join(trouble)}",
                badness=len(trouble),
            )
    text = " ".join(turn.text for turn in record.turns)
    if (found := other_language(text, record.language)) is not None:
        yield Finding(
            rule="language",
            record=record.id,
            detail=f"says {record.language!r}, reads like {found}",
            badness=len(text),
        )


def unspeakable(text: str) -> list[str]:
    """What a voice can't say in a text; empty if all of it can be said."""
    trouble = [name for name, pattern in MARKUP.items() if pattern.search(text)]
    if not can_be_said(text):
        trouble.append("no words")
    symbols = {
        character for character in text if not character.isspace() and not is_text(character)
    }
    if symbols:
        trouble.append("the signs " + " ".join(sorted(symbols)))
    return trouble


def is_text(character: str) -> bool:
    """Letters, numbers, marks, and punctuation but for what markup is made of."""
    kind = unicodedata.category(character)[0]
    return kind in "LMN" or character in SIGNS or (kind == "P" and character not in MARKUP_SIGNS)


def other_language(text: str, language: str) -> str | None:
    """The script or language that the text seems to be of, if that isn't `language`."""
    code = language.split("-")[0].lower()
    scripts = Counter(unicodedata.name(c, "UNKNOWN").split()[0] for c in text if c.isalpha())
    if scripts:
        script, count = scripts.most_common(1)[0]
        if script not in SCRIPTS.get(code, {"LATIN"}) and count > scripts.total() / 2:
            return f"{script.lower()} script"
    words = re.findall(r"\w+", text.casefold())
    if code not in WORDS or len(words) < FEW_WORDS:
        return None
    hits = {name: sum(word in common for word in words) for name, common in WORDS.items()}
    best = max(hits, key=lambda name: hits[name])
    # Neighbouring languages share words: only a clear majority counts.
    return repr(best) if hits[best] >= 3 and hits[best] > 2 * hits[code] else None


def pairing(records: Sequence[Record]) -> Iterator[Finding]:
    """Where a role is spoken, all its turns are, and so with the units of answers.

    The record counts the questions that are meant to be written.
    """
    roles = {turn.role for record in records for turn in record.turns if turn.speech}
    with_units = any(turn.units is not None for record in records for turn in record.turns)
    for record in records:
        written = 2 * int(record.provenance.get(WRITTEN_TURNS, "0"))
        for number, turn in enumerate(record.turns, start=1):
            meant = turn.role == "user" and number < written
            if turn.role in roles and turn.speech is None and not meant:
                detail = f"{turn.role} turn without speech"
                yield Finding(rule="no recording", record=record.id, turn=number, detail=detail)
            if turn.role == "assistant" and with_units and not turn.units:
                yield Finding(rule="no units", record=record.id, turn=number, detail="no units")


def duplicates(records: Sequence[Record]) -> Iterator[Finding]:
    """Records of one split that equal an earlier one in texts and voices."""
    first: dict[tuple[object, ...], str] = {}
    for record in records:
        content = (record.split, *((turn.text, turn.voice) for turn in record.turns))
        same = first.setdefault(content, record.id)
        if same != record.id:
            yield Finding(rule="duplicate", record=record.id, detail=f"equals {same}")


def leakage(records: Sequence[Record]) -> Iterator[Finding]:
    """Questions and their recordings that training shares with another split.

    A question is all that the user says up to an answer, so a dialogue has one for each answer.
    """
    training = [record for record in records if record.split == "train"]
    questions = {
        question: record.id
        for record in training
        for end in range(1, len(record.turns) + 1, 2)
        if (question := asked(record.turns[:end]))
    }
    recordings = {
        turn.speech: record.id
        for record in training
        for turn in record.turns[::2]
        if turn.speech is not None
    }
    for record in records:
        if record.split == "train":
            continue
        shared = [turn.speech for turn in record.turns[::2] if turn.speech in recordings]
        if (twin := questions.get(asked(record.turns))) is not None:
            detail = f"{record.split} asks what {twin} asks in train"
            yield Finding(rule="leakage", record=record.id, detail=detail)
        elif shared:
            detail = f"{record.split} uses the recording {shared[0]} of {recordings[shared[0]]}"
            yield Finding(rule="leakage", record=record.id, detail=detail)
