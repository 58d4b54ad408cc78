"""Who asks what in the nano's data set: its clips and records, before anything is spoken."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data_tools.nano.asks import KNOWN, SHARES, WIDE
from data_tools.speech import PlannedClip, Voice, answered
from data_tools.talk import REFUSE, Ask, SpokenAsk, Voices, chosen

VALIDATION_WIDE, VALIDATION_REFUSE = 240, 60
TEST_WIDE = 300  # of the held-out templates, each voice asks the same
TEST_UNKNOWN, TEST_REFUSE = 100, 150
READING = 4_000  # training questions that the voice of the answers reads


def plan(
    asks: Mapping[str, Sequence[Ask]], voices: Voices, *, questions: int, seed: int
) -> list[SpokenAsk]:
    """Who says what: training until `questions` turns are spoken, validation, and the tests.

    Everything is asked before any is repeated, and it is repeated by another voice.
    """
    spoken: list[SpokenAsk] = []
    used: dict[str, list[Voice]] = {}

    def add(ask: Ask, split: str, voice: Voice | None = None, take: str = "") -> None:
        before = used.setdefault(ask.id, [])
        name = f"{ask.id}.{take or len(before)}"
        voice = ask.voice or voice or drawn(name, before)
        before.append(voice)
        spoken.append(SpokenAsk(id=name, ask=ask, voice=voice, split=split))

    def drawn(name: str, before: Sequence[Voice]) -> Voice:
        rng = np.random.default_rng([seed, *hashlib.sha256(name.encode()).digest()])
        voice = voices.draw(rng)
        while voice in before:
            voice = voices.draw(rng)
        return voice

    def held_out(kind: str, split: str) -> list[Ask]:
        return [ask for ask in asks.get(kind, ()) if ask.split == split]

    for ask in chosen(asks, SHARES, "train", questions):
        add(ask, "train")
    for ask in (
        *held_out(KNOWN, "validation"),
        *held_out(WIDE, "validation")[:VALIDATION_WIDE],
        *held_out(REFUSE, "validation")[:VALIDATION_REFUSE],
    ):
        add(ask, "validation")
    for kind, tested in (
        (KNOWN, held_out(KNOWN, "test")),
        (WIDE, held_out(WIDE, "test")[:TEST_WIDE]),
    ):
        for ask in tested:
            add(ask, f"test_{kind}")
            for name, voice in voices.held_out.items():
                add(ask, f"test_{kind}_{name}", voice, name)
    refused = held_out(REFUSE, "test")
    for ask in [ask for ask in refused if ask.voice is None][:TEST_UNKNOWN]:
        add(ask, "test_unknown")
    for ask in [ask for ask in refused if ask.voice is not None][:TEST_REFUSE]:
        add(ask, "test_refuse")
    return spoken


def texts(asks: Mapping[str, Sequence[Ask]], spoken: Sequence[SpokenAsk]) -> Iterator[Ask]:
    """What the base language model reads: the whole domain, and of the refusals what is spoken."""
    yield from asks.get(KNOWN, ())
    yield from asks.get(WIDE, ())
    yield from {item.ask.id: item.ask for item in spoken if item.ask.kind == REFUSE}.values()


def reading(spoken: Sequence[SpokenAsk]) -> list[PlannedClip]:
    """Questions of training, in the voice of the answers; each once."""
    said = dict.fromkeys(
        question
        for item in spoken
        if item.split == "train" and item.ask.kind != REFUSE
        for question, _ in item.ask.turns
    )
    return [answered("reading", question) for question in list(said)[:READING]]
