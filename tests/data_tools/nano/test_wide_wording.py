"""The wide wordings of the nano's domain: many more templates, whole ones held out."""

import re
from collections import defaultdict
from functools import cache

import pytest

from data_tools.nano.domain.dialogue import FOLLOW_UPS, Dialogue, dialogues
from data_tools.nano.domain.skills import skills
from data_tools.nano.domain.wide import wide_dialogues
from data_tools.nano.domain.wide_chat import FOLLOW_UPS as FOLLOW_UP_PHRASES
from data_tools.nano.domain.wide_chat import GREETINGS, IDENTITY
from data_tools.nano.domain.wide_free import FREE_FOLLOW_UPS, FREE_SENTENCES
from data_tools.nano.domain.wide_free_chat import FREE_CHAT
from data_tools.nano.domain.wide_free_numbers import FREE_NUMBERS
from data_tools.nano.domain.wide_numbers import WIDE_NUMBERS
from data_tools.nano.domain.wide_skills import WIDE_SKILLS
from data_tools.nano.domain.wording import TIMES_AS_MANY, asked

SPEAKABLE = re.compile(r"[A-Z][A-Za-z', ]*[.?]( [A-Z][A-Za-z', ]*[.?])?")
HELD_OUT = ("validation", "test")


def template_of(dialogue: Dialogue) -> str:
    return dialogue.id.rpartition("/")[2]


@cache
def templates(split: str) -> dict[str, set[str]]:
    """skill -> its templates in a split."""
    found = defaultdict(set)
    for dialogue in wide_dialogues():
        if dialogue.split == split:
            found[dialogue.skill].add(template_of(dialogue))
    return found


def history(dialogue: Dialogue) -> tuple[str, ...]:
    return tuple(asked(question) for question, _ in dialogue.turns)


@pytest.mark.parametrize("skill", skills(), ids=lambda skill: skill.name)
def test_a_skill_has_five_wide_templates_for_each_plain_one(skill) -> None:
    # Greetings and questions about the nano have phrases of their own for every answer.
    assert len(templates("train")[skill.name]) >= TIMES_AS_MANY * len(skill.templates)


@pytest.mark.parametrize("split", HELD_OUT)
def test_every_skill_has_held_out_templates(split: str) -> None:
    assert set(templates(split)) == {dialogue.skill for dialogue in dialogues()}


@pytest.mark.parametrize("split", HELD_OUT)
def test_no_template_and_no_question_of_training_is_held_out(split: str) -> None:
    of_training = {d for skill in templates("train").values() for d in skill}
    assert not of_training & {d for skill in templates(split).values() for d in skill}
    trained = {history(d) for d in (*wide_dialogues(), *dialogues()) if d.split == "train"}
    assert not trained & {history(d) for d in wide_dialogues() if d.split == split}


def test_a_held_out_template_is_no_known_core_in_a_new_frame() -> None:
    for name, wording in (WIDE_SKILLS | WIDE_NUMBERS).items():
        cores = (*wording.questions, *wording.clauses, *wording.names, *wording.wants)
        for text in (*wording.validation, *wording.test):
            for core in (*cores, *wording.orders):
                assert f" {asked(core)} " not in f" {asked(text)} ", f"{name}: {text!r}: {core!r}"


def likeness(one: str, other: str) -> float:
    """Shared words over all words of two templates."""
    words, others = set(asked(one).split()), set(asked(other).split())
    return len(words & others) / len(words | others)


def test_no_free_sentence_of_training_is_like_a_held_out_one() -> None:
    wordings = WIDE_SKILLS | WIDE_NUMBERS
    free = FREE_SENTENCES | FREE_NUMBERS
    assert set(free) == set(wordings)
    pairs = [(text, wordings[skill].test) for skill in free for text in free[skill]]
    pairs += [(text, FOLLOW_UP_PHRASES.test) for text in FREE_FOLLOW_UPS]
    said = GREETINGS | IDENTITY
    assert set(FREE_CHAT) == set(said)
    pairs += [(text, said[answer].test) for answer in FREE_CHAT for text in FREE_CHAT[answer]]
    assert len(pairs) > 500
    for text, held_out in pairs:
        assert max(likeness(text, other) for other in held_out) < 0.55, text


def test_answers_are_those_of_the_plain_dialogues() -> None:
    plain = {dialogue.fact: dialogue.turns[-1][1] for dialogue in dialogues()}
    for dialogue in wide_dialogues():
        assert dialogue.turns[-1][1] == plain[dialogue.fact]


def test_no_history_of_questions_is_asked_twice_or_in_plain_wording_too() -> None:
    plain = {history(dialogue) for dialogue in dialogues()}
    seen: set[tuple[str, ...]] = set()
    for dialogue in wide_dialogues():
        assert history(dialogue) not in plain | seen, dialogue.turns
        seen.add(history(dialogue))


def test_every_question_can_be_spoken_as_written() -> None:
    for dialogue in wide_dialogues():
        for question, _ in dialogue.turns:
            assert SPEAKABLE.fullmatch(question), question
            assert len(question.split()) <= 14, question


def test_a_follow_up_comes_after_a_question_of_training() -> None:
    trained = {d.turns[0] for d in wide_dialogues() if d.split == "train" and len(d.turns) == 1}
    two_turns = [dialogue for dialogue in wide_dialogues() if dialogue.skill == FOLLOW_UPS]
    assert two_turns
    assert all(len(d.turns) == 2 and d.turns[0] in trained for d in two_turns)
