"""Sentences from patterns, and the texts that the mini's data set has of its own."""

import re
from itertools import islice

import numpy as np
import pytest

from data_tools.mini.everyday import EVERYDAY
from data_tools.mini.ideas import IDEAS
from data_tools.mini.requests import REQUESTS
from data_tools.talk.grammar import Talk, draw, replied, sentence, sentences
from data_tools.talk.refusals import UNKNOWN
from data_tools.talk.words import TABLES

ALL = (*EVERYDAY, *REQUESTS, *IDEAS, *UNKNOWN)
SPEAKABLE = re.compile(r"[A-Z][A-Za-z' ,-]*[.?]( [A-Z][A-Za-z' ,-]*[.?])?")
TINY = {"who": {"my dog": "your dog", "Ann": "Ann"}, "day": {"Monday": "Monday"}}


def texts(talk: Talk, split: str, *, seed: int = 0) -> list[str]:
    return [said.text for said in islice(sentences(talk, split, TABLES, seed=seed), 300)]


def test_a_pattern_fills_its_choices_and_slots_and_answers_in_the_other_person() -> None:
    talk = Talk(skill="x", ways=("[Yes|No], {who} sings.",), answers=("So {who} sings.",))
    made = {said.text: said.answer for said in sentences(talk, "train", TINY, seed=0)}
    assert made == {
        "Yes, my dog sings.": "So your dog sings.",
        "No, my dog sings.": "So your dog sings.",
        "Yes, Ann sings.": "So Ann sings.",
        "No, Ann sings.": "So Ann sings.",
    }


def test_a_slot_that_stands_twice_is_filled_alike() -> None:
    text, values = draw("{who} and {who}", TINY, np.random.default_rng(0))
    assert text.casefold().split(" and ")[0] == text.casefold().split(" and ")[1]
    assert set(values) == {"who"}


def test_an_answer_says_what_was_understood_where_one_can() -> None:
    talk = Talk(skill="x", ways=(), answers=("Okay.", "{day} it is.", "{who} on {day}?"))
    rng = np.random.default_rng(0)
    assert {replied(talk, {"day": "Monday"}, rng) for _ in range(20)} == {"Monday it is."}
    assert {replied(talk, {}, rng) for _ in range(20)} == {"Okay."}
    with pytest.raises(ValueError, match="no answer fits"):
        replied(Talk(skill="x", ways=(), answers=("{who}",)), {"day": "Monday"}, rng)


def test_spaces_capitals_and_question_marks_are_put_right() -> None:
    assert sentence(" please  turn it on .") == "Please turn it on."
    assert sentence("could you help me.") == "Could you help me?"
    assert sentence("yes. it is") == "Yes. It is"


@pytest.mark.parametrize("talk", ALL, ids=lambda talk: talk.skill)
def test_every_sentence_can_be_spoken_and_every_answer_too(talk: Talk) -> None:
    for split in ("train", "validation", "test"):
        made = list(islice(sentences(talk, split, TABLES, seed=0), 300))
        assert made, split
        for said in made:
            assert SPEAKABLE.fullmatch(said.text), said.text
            assert len(said.text.split()) <= 18, said.text
            assert bool(said.answer) == bool(talk.answers)
            assert not said.answer or SPEAKABLE.fullmatch(said.answer), said.answer


@pytest.mark.parametrize("talk", ALL, ids=lambda talk: talk.skill)
def test_patterns_are_held_out_whole(talk: Talk) -> None:
    assert not set(talk.ways) & {*talk.validation, *talk.test}
    assert not set(texts(talk, "train")) & set(texts(talk, "test"))


def test_there_are_thousands_of_different_sentences_in_training() -> None:
    made = {text for talk in ALL for text in texts(talk, "train")}
    assert len(made) > 7_000


def test_a_seed_gives_the_same_sentences_again() -> None:
    assert texts(REQUESTS[0], "train") == texts(REQUESTS[0], "train")
    assert texts(REQUESTS[0], "train") != texts(REQUESTS[0], "train", seed=1)
