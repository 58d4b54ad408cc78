"""What is said to the mini, kind by kind, before anyone says it: texts, answers, splits."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from data_tools.mini.everyday import EVERYDAY
from data_tools.mini.ideas import IDEAS
from data_tools.mini.prose import ProseSentence
from data_tools.mini.requests import REQUESTS
from data_tools.mini.texts import OpenQuestion
from data_tools.nano.domain import dialogues, wide_dialogues
from data_tools.sources import ASK_TO_REPEAT, READY
from data_tools.talk import Ask, in_turn, pattern_name, talked

KINDS = ("domain", "open", "everyday", "refuse", "repeat", "prose")
OWN = "mini_talk"
DOMAIN = "nano_domain"
VALIDATION_SHARE, TEST_SHARE = 0.03, 0.04  # of open questions and prose, by text
# How it is asked for in speech, in the same breath.
REPEAT_AFTER_ME = (
    "Repeat after me.",
    "Please repeat this.",
    "Say this after me.",
    "Repeat what I say.",
    "Please say after me.",
)
LONGEST_REPEAT = 14  # words, but for prose
AGAIN = {
    "train": (
        "Say that again.", "Can you repeat that?", "Please repeat that.", "Repeat that, please.",
        "What did you say?", "Sorry, what was that?", "Could you say that again?", "One more time.",
        "Slower, please.", "Can you say that more slowly?", "I did not hear you.", "Pardon?",
        "Speak slower, please.", "Once more, please.", "Can you speak up?", "Louder, please.",
    ),
    "validation": ("I missed that, what was it?",),
    "test": ("That was too fast for me.", "Would you mind telling me again?"),
}  # fmt: skip
RECALL = {
    "train": ("What did I say?", "What did I just say?", "Repeat what I said.", "What was that?"),
    "validation": ("Do you remember my words?",),
    "test": ("Tell me what I said just now.", "Which words did you hear from me?"),
}


def domain(*, called: str) -> Iterator[Ask]:
    """The nano's facts: both wordings in training, the wide templates held out.

    called: the name of the model, which says it when it is asked.
    """
    plain = [dialogue for dialogue in dialogues() if dialogue.split == "train"]
    for dialogue in (*wide_dialogues(), *plain):
        yield Ask(
            kind="domain",
            skill=dialogue.skill,
            template=dialogue.template,
            split=dialogue.split,
            turns=tuple((said, answer.replace("Nano", called)) for said, answer in dialogue.turns),
            source=DOMAIN,
        )


def open_asks(questions: Sequence[OpenQuestion]) -> Iterator[Ask]:
    """Split by text."""
    for question in questions:
        yield Ask(
            kind="open",
            skill=question.source.rpartition("/")[2],
            template="",
            split=split_of(question.text),
            turns=((question.text, ""),),
            source=question.source,
            licence=question.licence,
            gold=question.gold,
        )


def split_of(text: str) -> str:
    """Drawn by the text, so that it stays if others come or go."""
    place = int(hashlib.sha256(text.casefold().encode()).hexdigest()[:8], 16) / 16**8
    if place >= VALIDATION_SHARE + TEST_SHARE:
        return "train"
    return "validation" if place < VALIDATION_SHARE else "test"


def prose(sentences: Sequence[ProseSentence], *, seed: int) -> list[Ask]:
    """To be said back, split by text; those of each length in turn, as most are short."""
    said = (
        Ask(
            kind="prose",
            skill="prose",
            template="",
            split=split_of(sentence.text),
            turns=((sentence.text, sentence.text),),
            source=sentence.source,
            licence=sentence.licence,
        )
        for sentence in sentences
    )
    by_length = in_turn(said, seed, group=lambda ask: f"{len(ask.turns[0][0].split()):02}")
    again = repeats(by_length, seed=seed, longest=None)
    return [replace(ask, kind="prose") for ask in again]


def ideas(*, seed: int) -> Iterator[Ask]:
    """Our own questions for a language model."""
    for talk in IDEAS:
        yield from talked(talk, "open", source=OWN, seed=seed)


@cache
def everyday(*, seed: int) -> tuple[Ask, ...]:
    """All everyday talk: what has its own answers, and requests."""
    talks = (*EVERYDAY, *REQUESTS)
    return tuple(ask for talk in talks for ask in talked(talk, "everyday", source=OWN, seed=seed))


def once_more(asks: Sequence[Ask]) -> Iterator[Ask]:
    """After an answer that stands: it is wanted again, or what was asked is."""
    for number, ask in enumerate(asks):
        question, answer = ask.turns[0]
        if ask.voice is not None or len(ask.turns) > 1 or not answer:
            continue
        skill, ways = ("say_again", AGAIN) if number % 2 else ("recall", RECALL)
        way = ways[ask.split][int(ask.id[-6:], 16) % len(ways[ask.split])]
        yield replace(
            ask,
            kind="everyday",
            skill=skill,
            template=f"{skill}/{pattern_name(way)}",
            turns=((question, answer), (way, answer if skill == "say_again" else question)),
            source=OWN,
        )


def repeats(
    asks: Sequence[Ask], *, seed: int, longest: int | None = LONGEST_REPEAT
) -> Iterator[Ask]:
    """The words of other asks, to be said back; two thirds are asked for in writing.

    In validation and tests all are, so that what is heard is what has to be said.
    longest: words; what has more is left out. None takes all.
    """
    rng = np.random.default_rng([seed, 3])
    for ask in asks:
        text = ask.turns[0][0]
        if ask.voice is not None or (longest and len(text.split()) > longest):
            continue
        drawn = rng.integers(3 * len(REPEAT_AFTER_ME))
        aloud = ask.split == "train" and drawn < len(REPEAT_AFTER_ME)
        yield repeated_after(ask, text, REPEAT_AFTER_ME[drawn]) if aloud else to_repeat(ask, text)


def to_repeat(ask: Ask, text: str) -> Ask:
    """The words of an ask, after it was said in writing that they are to be repeated."""
    return replace(
        ask,
        kind="repeat",
        skill="repeat",
        template="repeat/written",
        turns=((ASK_TO_REPEAT, READY), (text, text)),
        written=1,
        gold=(),
    )


def repeated_after(ask: Ask, text: str, prefix: str) -> Ask:
    """The words of an ask, with the wish in the same breath."""
    return replace(
        ask,
        kind="repeat",
        skill="repeat",
        template=f"repeat/{pattern_name(prefix)}",
        turns=((f"{prefix} {text}", text),),
        gold=(),
    )
