"""The nano's closed domain: a few hundred facts, each asked for in several ways.

Everything is made from tables (facts.py), templates (skills.py, number_skills.py) and second
questions (follow_ups.py), so that the same code gives the same dialogues on every machine.
"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cache

from data_tools.nano.domain.builders import sentence
from data_tools.nano.domain.follow_ups import follow_ups
from data_tools.nano.domain.skills import skills

TEST_SHARE = 0.07  # of every skill's dialogues
VALIDATION_SHARE = 0.03
FOLLOW_UPS = "follow_ups"


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """One or two questions with their answers.

    id: "skill/fact/template", for example "capitals/france/2".
    turns: (question, answer) pairs.
    split: "train", "validation" or "test", of the last question's phrasing.
    """

    id: str
    skill: str
    turns: tuple[tuple[str, str], ...]
    split: str

    @property
    def fact(self) -> str:
        """What the dialogue is about: its id without the phrasing, "capitals/france"."""
        return self.id.rpartition("/")[0]

    @property
    def template(self) -> str:
        """The way it is asked for: skill and number of the template, "capitals/2"."""
        return f"{self.skill}/{self.id.rpartition('/')[2]}"


def dialogues() -> list[Dialogue]:
    """All dialogues, in the same order and the same splits on every call and machine."""
    return list(_all_dialogues())


@cache
def _all_dialogues() -> tuple[Dialogue, ...]:
    single = _split(_single_turns())
    return (*single, *_split(_two_turns(single)))


def _single_turns() -> list[Dialogue]:
    return [
        Dialogue(
            id=f"{skill.name}/{fact.key}/{number}",
            skill=skill.name,
            turns=((sentence(template.format(**fact.slots)), fact.answer),),
            split="train",
        )
        for skill in skills()
        for fact in skill.facts
        for number, template in enumerate(skill.templates)
    ]


def _two_turns(single: list[Dialogue]) -> list[Dialogue]:
    """Follow-ups after first questions in phrasings that are trained on anyway."""
    openings = defaultdict(list)
    for dialogue in single:
        if dialogue.split == "train":
            openings[dialogue.fact].append(dialogue.turns[0])
    return [
        Dialogue(
            id=f"{FOLLOW_UPS}/{follow_up.key}/{number}",
            skill=FOLLOW_UPS,
            turns=(
                openings[follow_up.first][number % len(openings[follow_up.first])],
                (question, follow_up.answer),
            ),
            split="train",
        )
        for follow_up in follow_ups(skills())
        for number, question in enumerate(follow_up.questions)
    ]


def _split(made: list[Dialogue]) -> list[Dialogue]:
    """Hold out phrasings by hash, the same share of every skill, at most one of each fact.

    So the other phrasings of a held-out fact are trained on, and its template is trained on
    with at least half of the skill's facts.
    """
    by_skill = defaultdict(list)
    for dialogue in made:
        by_skill[dialogue.skill].append(dialogue)
    split_of: dict[str, str] = {}
    for of_skill in by_skill.values():
        split_of |= _hold_out(of_skill)
    return [replace(dialogue, split=split_of.get(dialogue.id, "train")) for dialogue in made]


def _hold_out(of_skill: list[Dialogue]) -> dict[str, str]:
    """The held-out ids of one skill, each with its split."""
    tests = max(2, round(TEST_SHARE * len(of_skill)))
    validations = max(1, round(VALIDATION_SHARE * len(of_skill)))
    at_most_per_template = len({dialogue.fact for dialogue in of_skill}) // 2
    held_out: list[Dialogue] = []
    used_facts: set[str] = set()
    used_templates: Counter[str] = Counter()
    for dialogue in sorted(of_skill, key=_rank):
        if len(held_out) == tests + validations:
            break
        template = dialogue.template
        if dialogue.fact in used_facts or used_templates[template] == at_most_per_template:
            continue
        held_out.append(dialogue)
        used_facts.add(dialogue.fact)
        used_templates[template] += 1
    return {d.id: "test" if i < tests else "validation" for i, d in enumerate(held_out)}


def _rank(dialogue: Dialogue) -> bytes:
    # Of the id alone: rewording one question must not move the others between the splits.
    return hashlib.sha256(dialogue.id.encode()).digest()
