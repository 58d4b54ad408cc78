"""Who says what in the mini's data set: its clips and records, before anything is spoken."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np

from data_tools.manifest import WRITTEN_TURNS, Record, RecordTurn
from data_tools.mini.asks import (
    KINDS,
    Ask,
    domain,
    everyday,
    ideas,
    not_speech,
    once_more,
    open_asks,
    other_languages,
    repeats,
    to_repeat,
    unknown,
)
from data_tools.mini.texts import OpenQuestion
from data_tools.mini.voices import Voices
from data_tools.speech import ANSWER_VOICE, EFFECTS, PlannedClip, Voice, answered

SHARES = {"domain": 0.25, "open": 0.20, "everyday": 0.17, "refuse": 0.08, "repeat": 0.30}
OPEN_SHARES = {"sets": 0.5, "ideas": 0.5}
ONCE_MORE = 0.06  # of everyday talk
REFUSE_SHARES = {"sound": 0.4, "language": 0.25, "unknown": 0.35}
VALIDATION_PART, TEST_PART = 40, 60  # one of so many questions; tests are spoken by every voice
SPEECH = "speech by flite, festival, espeak-ng and what Piper's voices say"

Written = Mapping[str, str]  # question -> answer of a language model


@dataclass(frozen=True, kw_only=True)
class SpokenAsk:
    """An ask in one voice, in a split of the data set."""

    id: str
    ask: Ask
    voice: Voice
    split: str
    effect: str = ""

    def said(self, written: Written) -> Ask:
        """The ask as it can be learnt: what nobody has answered is to be repeated."""
        question, answer = self.ask.turns[-1]
        if answer:
            return self.ask
        if question in written:
            return replace(self.ask, turns=((question, written[question]),))
        return to_repeat(self.ask, question)

    def question_clips(self) -> Iterator[PlannedClip]:
        """A clip for each turn that is spoken, none for those in writing."""
        for number, (said, _) in enumerate(self.ask.turns):
            if number >= self.ask.written:
                spoken = number - self.ask.written
                path = f"audio/questions/{self.split}/{self.id}.{spoken}.wav"
                yield PlannedClip(path=path, text=said, voice=self.voice, effect=self.effect)

    def answers(self, written: Written) -> list[str]:
        """Every answer as it can be learnt, in order."""
        return [answer for _, answer in self.said(written).turns]

    def clips(self, written: Written) -> Iterator[PlannedClip]:
        """All clips of the record; answers that are equal share one."""
        yield from self.question_clips()
        for answer in self.answers(written):
            yield answered("answers", answer)

    def record(self, written: Written) -> Record:
        """The manifest record of these clips."""
        ask = self.said(written)
        clips = iter(self.question_clips())
        turns: list[RecordTurn] = []
        for number, (said, answer) in enumerate(ask.turns):
            clip = next(clips) if number >= ask.written else None
            voice = None if clip is None else str(clip.voice)
            speech = answered("answers", answer).path
            turns += [
                RecordTurn(role="user", text=said, speech=clip and clip.path, voice=voice),
                RecordTurn(role="assistant", text=answer, speech=speech, voice=str(ANSWER_VOICE)),
            ]
        more = {"effect": self.effect} if self.effect else {}
        if ask.written:
            more[WRITTEN_TURNS] = str(ask.written)
        if not self.ask.turns[-1][1] and ask.kind != "repeat":
            more["answered_by"] = "a language model"
        return Record(
            id=self.id,
            turns=tuple(turns),
            language=ask.language,
            split=self.split,
            provenance=provenance(ask) | more,
        )


def provenance(ask: Ask) -> dict[str, str]:
    """Where a record comes from: kind, skill, template, dialogue, source and licence."""
    return {
        "kind": ask.kind,
        "skill": ask.skill,
        "template": ask.template,
        "dialogue": ask.id,
        "source": ask.source,
        "licence": f"{ask.licence}; {SPEECH}",
    }


def pools(
    questions: Sequence[OpenQuestion], kinds: Sequence[str], *, called: str, seed: int
) -> dict[str, list[Ask]]:
    """Of every kind all there is, in an order drawn by the seed."""
    made: dict[str, list[Ask]] = {
        "domain": shuffled(domain(called=called), seed),
        "open": mixed(
            {
                "sets": shuffled(open_asks(questions), seed),
                "ideas": in_turn(ideas(seed=seed), seed),
            },
            OPEN_SHARES,
        ),
        "everyday": in_turn(everyday(seed=seed), seed),
    }
    others = [*made["domain"], *made["everyday"]]
    again = shuffled(once_more(others), seed)
    made["everyday"] = mixed(
        {"": made["everyday"], "again": again}, {"": 1 - ONCE_MORE, "again": ONCE_MORE}
    )
    refusals = {
        "sound": in_turn(not_speech(), seed),
        "language": shuffled(other_languages(), seed),
        "unknown": in_turn(unknown(seed=seed), seed),
    }
    made["refuse"] = mixed(refusals, REFUSE_SHARES)
    plain = {
        kind: [ask for ask in made[kind] if len(ask.turns) == 1]
        for kind in ("domain", "open", "everyday")
    }
    said = mixed(plain, {"domain": 0.25, "open": 0.35, "everyday": 0.4})
    made["repeat"] = list(repeats(said, seed=seed))
    return {kind: made[kind] for kind in KINDS if kind in kinds}


def shuffled(asks: Iterable[Ask], seed: int) -> list[Ask]:
    """All of them, in an order drawn by the seed."""
    found = list(asks)
    return [found[place] for place in np.random.default_rng([seed, 1]).permutation(len(found))]


def in_turn(asks: Iterable[Ask], seed: int) -> list[Ask]:
    """Skill by skill in turn, so that those with few sentences are not lost among the others."""
    by_skill: dict[str, list[Ask]] = {}
    for ask in shuffled(asks, seed):
        by_skill.setdefault(
            f"{ask.skill}/{ask.template if ask.skill == 'sound' else ''}", []
        ).append(ask)
    rows = [by_skill[skill] for skill in sorted(by_skill)]
    longest = max(map(len, rows), default=0)
    return [row[place] for place in range(longest) for row in rows if place < len(row)]


def mixed(parts: Mapping[str, list[Ask]], shares: Mapping[str, float]) -> list[Ask]:
    """Split by split, the parts at their shares from the start; what one lacks the others give."""
    found: list[Ask] = []
    for split in ("train", "validation", "test"):
        rows = {name: [ask for ask in part if ask.split == split] for name, part in parts.items()}
        places = sorted(
            ((index + 0.5) / shares[name], name, index)
            for name, row in rows.items()
            for index in range(len(row))
        )
        found += [rows[name][index] for _, name, index in places]
    return found


def plan(
    asks: Mapping[str, Sequence[Ask]], voices: Voices, *, questions: int, seed: int
) -> list[SpokenAsk]:
    """Who says what: training until `questions` turns are spoken, validation, and the tests.

    The tests are test_seen (held-out asks, voices of training), the same through a telephone, in a
    room and in noise, the same by every held-out voice, and test_refuse, which is no English.
    """
    spoken: list[SpokenAsk] = []
    takes: dict[str, int] = {}

    def add(ask: Ask, split: str, voice: Voice | None = None, effect: str = "") -> Voice:
        take = takes[ask.id] = takes.get(ask.id, -1) + 1
        voice = ask.voice or voice or drawn(f"{ask.id}.{take}")
        spoken.append(
            SpokenAsk(id=f"{ask.id}.{take}", ask=ask, voice=voice, split=split, effect=effect)
        )
        return voice

    def drawn(take: str) -> Voice:
        rng = np.random.default_rng([seed, *hashlib.sha256(take.encode()).digest()])
        return voices.draw(rng)

    for ask in chosen(asks, "train", questions):
        add(ask, "train")
    for ask in chosen(asks, "validation", max(len(asks), questions // VALIDATION_PART)):
        add(ask, "validation")
    budget = max(len(asks), questions // TEST_PART)
    english = {kind: [ask for ask in pool if ask.voice is None] for kind, pool in asks.items()}
    for ask in chosen(english, "test", budget):
        voice = add(ask, "test_seen")
        for effect in EFFECTS:
            add(ask, f"test_{effect}", voice, effect)
        for name, held_out in voices.held_out.items():
            add(ask, f"test_{name}", held_out)
    others = {"refuse": [ask for ask in asks.get("refuse", ()) if ask.voice is not None]}
    for ask in chosen(others, "test", max(1, budget // 2)):
        add(ask, "test_refuse")
    return spoken


def chosen(asks: Mapping[str, Sequence[Ask]], split: str, turns: int) -> Iterator[Ask]:
    """By the shares of the kinds, until so many turns are spoken; training goes round again."""
    there = {kind: [ask for ask in pool if ask.split == split] for kind, pool in asks.items()}
    total = sum(SHARES[kind] for kind, pool in there.items() if pool)
    for kind, pool in there.items():
        left = round(turns * SHARES[kind] / total) if pool else 0
        for ask in cycle(pool) if split == "train" else pool:
            if left <= 0:
                break
            left -= ask.spoken
            yield ask
