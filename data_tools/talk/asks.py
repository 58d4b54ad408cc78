"""What is said, before anyone says it: texts, answer, split; and what is to be refused."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from data_tools.speech import SOUNDS, Voice
from data_tools.talk.grammar import Talk, sentences
from data_tools.talk.ordering import SPLITS, in_turn, shuffled
from data_tools.talk.refusals import (
    HELD_OUT_LANGUAGES,
    HELD_OUT_SOUNDS,
    LANGUAGES,
    NOT_UNDERSTOOD,
    TEST_SENTENCES,
    UNKNOWN,
    VALIDATION_SENTENCES,
    VARIANTS,
)
from data_tools.talk.words import TABLES

REFUSE = "refuse"  # the kind of what is not to be answered
REFUSE_SHARES = {"sound": 0.4, "language": 0.25, "unknown": 0.35}
OWN_LICENCE = "made by this project"
PER_TALK = 2000  # sentences of one talk at most, so that none crowds out the others
SOUNDS_PER_KIND = {"train": 400, "validation": 10, "test": 15}


@dataclass(frozen=True, kw_only=True)
class Ask:
    """turns: what is said, and the answer; "" where a language model has to write it.

    name: its id, or "" for one of its content. written: so many of the turns are put in writing,
    the others are spoken. voice: whose it is, if no other can say it. gold: answers that an open
    set itself gives.
    """

    kind: str
    skill: str
    template: str
    split: str
    turns: tuple[tuple[str, str], ...]
    source: str
    licence: str = OWN_LICENCE
    language: str = "en"
    written: int = 0
    voice: Voice | None = None
    gold: tuple[str, ...] = ()
    name: str = ""

    @property
    def id(self) -> str:
        """Its name, or one of its content, so that it stays if others come or go."""
        if self.name:
            return self.name
        content = repr((self.kind, self.skill, self.turns, self.written, str(self.voice)))
        return f"{self.kind}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    @property
    def spoken(self) -> int:
        """How many of its turns are spoken."""
        return len(self.turns) - self.written


def talked(talk: Talk, kind: str, *, source: str, seed: int) -> Iterator[Ask]:
    """The sentences of one talk as asks; no sentence of training is in a held-out split."""
    held_out: set[str] = set()
    for split in ("test", "validation", "train"):
        for said in islice(sentences(talk, split, TABLES, seed=seed), PER_TALK):
            if split != "train":
                held_out.add(said.text.casefold())
            elif said.text.casefold() in held_out:
                continue
            yield Ask(
                kind=kind,
                skill=said.skill,
                template=said.template,
                split=split,
                turns=((said.text, said.answer),),
                source=source,
            )


def refusal_pools(*, source: str, seed: int) -> dict[str, list[Ask]]:
    """What is to be refused, by the names of REFUSE_SHARES, in an order drawn by the seed."""
    return {
        "sound": in_turn(not_speech(source), seed),
        "language": shuffled(other_languages(source), seed),
        "unknown": in_turn(unknown(source, seed=seed), seed),
    }


def unknown(source: str, *, seed: int) -> Iterator[Ask]:
    """Facts that nobody could know, answered honestly."""
    for talk in UNKNOWN:
        yield from talked(talk, REFUSE, source=source, seed=seed)


def not_speech(source: str) -> Iterator[Ask]:
    """Sounds, by kind and seed; some kinds are heard in tests alone."""
    for split in SPLITS:
        for sound in SOUNDS:
            if sound in HELD_OUT_SOUNDS and split != "test":
                continue
            first = 10_000 * SPLITS.index(split)
            for seed in range(first, first + SOUNDS_PER_KIND[split]):
                voice = Voice("sound", sound, (("seed", str(seed)),))
                yield refused("sound", sound, split, "", voice, source)


def other_languages(source: str) -> Iterator[Ask]:
    """Sentences in languages that are not to be answered, in several voices each."""
    for language, texts in (LANGUAGES | HELD_OUT_LANGUAGES).items():
        for place, text in enumerate(reversed(texts)):
            split = "train"
            if language in HELD_OUT_LANGUAGES:
                split = "test"
            elif place < VALIDATION_SENTENCES:
                split = "validation"
            elif place < VALIDATION_SENTENCES + TEST_SENTENCES:
                split = "test"
            for variant in VARIANTS:
                voice = Voice("espeak", language, (("variant", variant),))
                yield refused("language", language, split, text, voice, source)


def refused(skill: str, template: str, split: str, text: str, voice: Voice, source: str) -> Ask:
    """An ask that is answered by not having understood; text: "" for a sound."""
    return Ask(
        kind=REFUSE,
        skill=skill,
        template=f"{skill}/{template}",
        split=split,
        turns=((text, NOT_UNDERSTOOD),),
        source=source,
        language=template[:2] if skill == "language" else "en",
        voice=voice,
    )
