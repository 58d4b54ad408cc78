"""A past that outgrows the language model, given anew with each question, as servers do."""

import torch

from omni.engine import Begun, Engine, Exchange
from tests.engines import ask, spoken
from tests.talk import SHORT

torch.set_num_threads(1)
TURNS = 40


def question(number: int) -> str:
    return f"{number}. " + "How warm is it today? " * 2


def test_what_was_dropped_stays_dropped_so_that_little_is_read_at_each_question(
    engine: Engine,
) -> None:
    talk = engine.open(SHORT)
    past: list[Exchange] = []
    read: list[int] = []
    dropped_at: list[int] = []
    positions = 0
    for number in range(TURNS):
        begun, *_, done = ask(talk, question(number), tuple(past)).events()
        assert isinstance(begun, Begun)
        past.append(Exchange(question(number), done.text, tuple(done.token_ids)))  # type: ignore[union-attr]
        if begun.positions < positions:
            dropped_at.append(number)
        else:
            read.append(begun.positions - begun.cached)
        positions = begun.positions
    assert len(dropped_at) > 1
    # Half of the positions are free again each time.
    assert len(dropped_at) < TURNS // 5
    longest = max(len(question(number)) for number in range(TURNS))
    assert max(read[1:]) < 2 * longest


def test_a_beginning_that_was_edited_is_dropped_anew(engine: Engine) -> None:
    talk = engine.open(SHORT)
    past = [Exchange(spoken(seed=1), "word " * 20)]
    past += [Exchange(question(number), "word " * 20) for number in range(15)]
    long = ask(talk, question(15), tuple(past)).events()[0]
    short = ask(talk, question(15), tuple(past[-3:])).events()
    fresh = ask(engine.open(SHORT), question(15), tuple(past[-3:])).events()
    assert isinstance(long, Begun) and isinstance(short[0], Begun)
    assert short[0].positions == fresh[0].positions  # type: ignore[union-attr]
    assert short[-1].token_ids == fresh[-1].token_ids  # type: ignore[union-attr]


def test_a_refused_question_drops_nothing_for_good(engine: Engine) -> None:
    past = tuple(Exchange(question(number), "word " * 12) for number in range(7))
    fits = ask(engine.open(SHORT), "How?", past).events()[0]
    talk = engine.open(SHORT)
    refused = ask(talk, "word " * 600, past).events()[-1]
    again = ask(talk, "How?", past).events()[0]
    assert isinstance(refused, ValueError)
    assert isinstance(fits, Begun) and isinstance(again, Begun)
    assert again.positions == fits.positions
