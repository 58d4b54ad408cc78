"""Who says what in the mini's data set: its clips and records, before anything is spoken."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from data_tools.manifest import Record
from data_tools.mini.asks import (
    KINDS,
    OWN,
    domain,
    everyday,
    ideas,
    once_more,
    open_asks,
    prose,
    repeats,
    to_repeat,
)
from data_tools.mini.prose import ProseSentence
from data_tools.mini.texts import OpenQuestion
from data_tools.speech import EFFECTS, Voice
from data_tools.talk import (
    REFUSE_SHARES,
    Ask,
    SpokenAsk,
    Voices,
    chosen,
    in_turn,
    mixed,
    refusal_pools,
    shuffled,
)

SHARES = {"domain": 0.25, "open": 0.20, "everyday": 0.17, "refuse": 0.08, "repeat": 0.30}
PROSE_SHARES = {
    "domain": 0.14,
    "open": 0.15,
    "everyday": 0.13,
    "refuse": 0.05,
    "repeat": 0.18,
    "prose": 0.35,
}  # where there is prose
OPEN_SHARES = {"sets": 0.5, "ideas": 0.5}
ONCE_MORE = 0.06  # of everyday talk
VALIDATION_PART, TEST_PART = 40, 60  # one of so many questions; tests are spoken by every voice

Written = Mapping[str, str]  # question -> answer of a language model


def as_learnt(item: SpokenAsk, written: Written) -> SpokenAsk:
    """It as it can be learnt: what nobody has answered is to be repeated."""
    question, answer = item.ask.turns[-1]
    if answer:
        return item
    if question in written:
        return replace(item, ask=replace(item.ask, turns=((question, written[question]),)))
    return replace(item, ask=to_repeat(item.ask, question))


def record_of(item: SpokenAsk, written: Written) -> Record:
    """The manifest record of it as it can be learnt."""
    known = as_learnt(item, written)
    own = bool(item.ask.turns[-1][1]) or known.ask.kind == "repeat"
    return known.record(**({} if own else {"answered_by": "a language model"}))


def pools(
    questions: Sequence[OpenQuestion],
    sentences: Sequence[ProseSentence],
    kinds: Sequence[str],
    *,
    called: str,
    seed: int,
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
    made["refuse"] = mixed(refusal_pools(source=OWN, seed=seed), REFUSE_SHARES)
    plain = {
        kind: [ask for ask in made[kind] if len(ask.turns) == 1]
        for kind in ("domain", "open", "everyday")
    }
    said = mixed(plain, {"domain": 0.25, "open": 0.35, "everyday": 0.4})
    made["repeat"] = list(repeats(said, seed=seed))
    made["prose"] = prose(sentences, seed=seed)
    return {kind: made[kind] for kind in KINDS if kind in kinds}


def plan(
    asks: Mapping[str, Sequence[Ask]], voices: Voices, *, questions: int, seed: int
) -> list[SpokenAsk]:
    """Who says what: training until `questions` turns are spoken, validation, and the tests.

    The tests are test_seen (held-out asks, voices of training), the same through a telephone, in a
    room and in noise, the same by every held-out voice, and test_refuse, which is no English.
    """
    shares = PROSE_SHARES if "prose" in asks else SHARES
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

    for ask in chosen(asks, shares, "train", questions):
        add(ask, "train")
    for ask in chosen(asks, shares, "validation", max(len(asks), questions // VALIDATION_PART)):
        add(ask, "validation")
    budget = max(len(asks), questions // TEST_PART)
    english = {kind: [ask for ask in pool if ask.voice is None] for kind, pool in asks.items()}
    for ask in chosen(english, shares, "test", budget):
        voice = add(ask, "test_seen")
        for effect in EFFECTS:
            add(ask, f"test_{effect}", voice, effect)
        for name, held_out in voices.held_out.items():
            add(ask, f"test_{name}", held_out)
    others = {"refuse": [ask for ask in asks.get("refuse", ()) if ask.voice is not None]}
    for ask in chosen(others, shares, "test", max(1, budget // 2)):
        add(ask, "test_refuse")
    return spoken
