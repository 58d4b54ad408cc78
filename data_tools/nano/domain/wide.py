"""The domain in wide wording: five templates for each of the plain ones and as many sentences that
stand in no frame, whole templates held out.

The facts and answers are those of the plain dialogues. A template stands in one split with all its
facts, so the held-out splits hold sentences whose core training has never seen.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from data_tools.nano.domain.builders import Fact, sentence
from data_tools.nano.domain.dialogue import FOLLOW_UPS, Dialogue, dialogues
from data_tools.nano.domain.follow_ups import follow_ups
from data_tools.nano.domain.skills import skills
from data_tools.nano.domain.wide_chat import FOLLOW_UPS as GOING_ON
from data_tools.nano.domain.wide_chat import GREETING_FRAMES, GREETINGS, IDENTITY, Said
from data_tools.nano.domain.wide_free import FREE_FOLLOW_UPS, FREE_SENTENCES
from data_tools.nano.domain.wide_free_chat import FREE_CHAT
from data_tools.nano.domain.wide_free_numbers import FREE_NUMBERS
from data_tools.nano.domain.wide_numbers import WIDE_NUMBERS
from data_tools.nano.domain.wide_skills import WIDE_SKILLS
from data_tools.nano.domain.wording import QUESTION_FRAMES, Template, Wording, asked, templates

CHATS = {"greetings": (GREETINGS, GREETING_FRAMES), "identity": (IDENTITY, QUESTION_FRAMES)}
TELLING = ("tell ", "explain ", "please ", "I'd ")  # phrases that no question mark ends


def wide_dialogues() -> list[Dialogue]:
    """All dialogues of the wide wordings, in the same order and splits on every call and machine.

    Their ids are "capitals/france/wffffffff", so they can stand beside the plain ones.
    """
    return list(_all_wide())


@cache
def _all_wide() -> tuple[Dialogue, ...]:
    single = list(_single_turns())
    made = (*single, *_two_turns(single))
    # What two facts share, such as "Next one, light?", is asked once; as is a plain question.
    taken = {_heard(dialogue) for dialogue in dialogues()}
    kept = []
    # The held-out ones first: what they ask is never trained on.
    for dialogue in sorted(made, key=lambda dialogue: dialogue.split == "train"):
        if _heard(dialogue) not in taken:
            taken.add(_heard(dialogue))
            kept.append(dialogue)
    return tuple(kept)


def _heard(dialogue: Dialogue) -> tuple[str, ...]:
    return tuple(asked(question) for question, _ in dialogue.turns)


def _single_turns() -> Iterator[Dialogue]:
    wordings = WIDE_SKILLS | WIDE_NUMBERS
    sentences = FREE_SENTENCES | FREE_NUMBERS
    for skill in skills():
        if skill.name in CHATS:
            table, frames = CHATS[skill.name]
            for fact in skill.facts:
                said = table[fact.answer]
                said = replace(said, train=(*said.train, *FREE_CHAT.get(fact.answer, ())))
                for template in _chat_templates(said, frames):
                    yield _dialogue(skill.name, fact, template)
            continue
        free = sentences.get(skill.name, ())
        for template in templates(skill.name, wordings[skill.name], skill.templates, free):
            for fact in skill.facts:
                yield _dialogue(skill.name, fact, template)


def _dialogue(skill: str, fact: Fact, template: Template) -> Dialogue:
    question = sentence(template.text.format(**fact.slots))
    return Dialogue(
        id=f"{skill}/{fact.key}/{template.key}",
        skill=skill,
        turns=((question, fact.answer),),
        split=template.split,
    )


def _chat_templates(said: Said, frames: tuple[str, ...]) -> Iterator[Template]:
    """Every phrase of training in every second frame; the held-out ones as they are."""
    for number, phrase in enumerate(said.train):
        for frame in frames[number % 2 :: 2]:
            yield Template(text=_ended(frame.replace("{core}", phrase), phrase), split="train")
    plain = frames[0]
    for split, phrases in (("validation", said.validation), ("test", said.test)):
        for phrase in phrases:
            yield Template(text=_ended(plain.replace("{core}", phrase), phrase), split=split)


def _ended(text: str, phrase: str) -> str:
    return text[:-1] + "." if phrase.startswith(TELLING) else text


def _two_turns(single: list[Dialogue]) -> Iterator[Dialogue]:
    """Follow-ups after a first question of training, each in its own wording."""
    openings = defaultdict(list)
    for dialogue in single:
        if dialogue.split == "train":
            openings[dialogue.fact].append(dialogue.turns[0])
    going_on = (*GOING_ON.train, *FREE_FOLLOW_UPS)
    wording = Wording(whole=going_on, validation=GOING_ON.validation, test=GOING_ON.test)
    for template in templates(FOLLOW_UPS, wording, ()):
        for follow_up in follow_ups(skills()):
            known = openings[follow_up.first]
            first = known[int(template.key[1:], 16) % len(known)]
            second = sentence(template.text.format(x=follow_up.named))
            yield Dialogue(
                id=f"{FOLLOW_UPS}/{follow_up.key}/{template.key}",
                skill=FOLLOW_UPS,
                turns=(first, (second, follow_up.answer)),
                split=template.split,
            )
