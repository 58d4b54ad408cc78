"""How the facts are asked for: one `Skill` per kind of question, with templates and answers."""

from collections.abc import Sequence

from data_tools.nano.domain import facts
from data_tools.nano.domain.builders import Skill, chat, look_up, neighbors
from data_tools.nano.domain.number_skills import number_and_word_skills

_NEIGHBOR_TEMPLATES = (
    "What {kind} comes {where} {{x}}?",
    "Which {kind} comes {where} {{x}}?",
    "Tell me the {kind} {where} {{x}}.",
    "What is the {kind} {where} {{x}}?",
    "Do you know which {kind} is {where} {{x}}?",
    "Can you name the {kind} that comes {where} {{x}}?",
    "If it is {{x}}, which {kind} is {where} it?",
    "{{x}}, and what {kind} is {where} it?",
)


def _neighbor_skill(kind: str, where: str, cycle: Sequence[str]) -> Skill:
    return Skill(
        name=f"{kind}_{where}",
        templates=tuple(t.format(kind=kind, where=where) for t in _NEIGHBOR_TEMPLATES),
        facts=neighbors(cycle, 1 if where == "after" else -1, f"{{y}} comes {where} {{x}}."),
    )


def skills() -> tuple[Skill, ...]:
    """All skills of one question and one answer."""
    return (
        Skill(
            name="greetings",
            templates=(
                "{x}.",
                "{other}.",
                "{x}, my friend.",
                "{other}, my friend.",
                "{x}, computer.",
                "Well, {other}.",
                "Well, {x}.",
                "{x} again.",
                "{other}, computer.",
                "I say {x}.",
            ),
            facts=chat(facts.GREETINGS),
        ),
        Skill(
            name="identity",
            templates=(
                "{x}?",
                "{other}?",
                "Tell me, {x}?",
                "Excuse me, {other}?",
                "Please tell me, {other}?",
                "I would like to know, {x}?",
                "Tell me, {other}?",
                "Excuse me, {x}?",
                "Please tell me, {x}?",
                "So, {other}?",
            ),
            facts=chat(facts.IDENTITY),
        ),
        Skill(
            name="capitals",
            templates=(
                "What is the capital of {x}?",
                "Can you tell me the capital of {x}?",
                "{x}'s capital, please.",
                "Do you know the capital of {x}?",
                "Which city is the capital of {x}?",
                "Tell me the capital city of {x}.",
            ),
            facts=look_up(facts.CAPITALS, "The capital of {x} is {y}."),
        ),
        Skill(
            name="continents",
            templates=(
                "Which continent is {x} in?",
                "On what continent is {x}?",
                "Where in the world is {x}?",
                "Tell me the continent of {x}.",
                "Do you know which continent {x} is in?",
                "What part of the world is {x} in?",
            ),
            facts=look_up(facts.CONTINENTS, "{x} is in {y}."),
        ),
        Skill(
            name="opposites",
            templates=(
                "What is the opposite of {x}?",
                "Tell me the opposite of {x}.",
                "Which word is the opposite of {x}?",
                "Can you give me the opposite of {x}?",
                "What word means the opposite of {x}?",
                "The opposite of {x}, please.",
                "Do you know the opposite of {x}?",
            ),
            facts=look_up(facts.OPPOSITES, "The opposite of {x} is {y}."),
        ),
        Skill(
            name="animal_sounds",
            templates=(
                "What sound does {x} make?",
                "How does {x} sound?",
                "What noise does {x} make?",
                "Tell me what sound {x} makes.",
                "Do you know the sound of {x}?",
                "Which sound comes from {x}?",
            ),
            facts=look_up(facts.ANIMAL_SOUNDS, "{x} {y}."),
        ),
        Skill(
            name="animal_babies",
            templates=(
                "What is a baby {x} called?",
                "What do you call a baby {x}?",
                "Tell me the name for a baby {x}.",
                "What is the word for a young {x}?",
                "Do you know what a baby {x} is called?",
                "What name does a young {x} have?",
            ),
            facts=look_up(facts.ANIMAL_BABIES, "A baby {x} is called a {y}."),
        ),
        Skill(
            name="animal_legs",
            templates=(
                "How many legs does {ax} have?",
                "Tell me how many legs {ax} has.",
                "Do you know how many legs {ax} has?",
                "What number of legs does {ax} have?",
                "Can you count the legs of {ax}?",
                "How many legs are there on {ax}?",
            ),
            facts=look_up(facts.ANIMAL_LEGS, "{ax} has {y} legs."),
        ),
        Skill(
            name="colors",
            templates=(
                "What color is {x}?",
                "Which color is {x}?",
                "Tell me the color of {x}.",
                "What is the color of {x}?",
                "Do you know what color {x} is?",
                "Can you tell me which color {x} has?",
            ),
            facts=look_up(facts.COLORS, "{x} is {y}."),
        ),
        _neighbor_skill("day", "after", facts.DAYS),
        _neighbor_skill("day", "before", facts.DAYS),
        _neighbor_skill("month", "after", facts.MONTHS),
        _neighbor_skill("month", "before", facts.MONTHS),
        Skill(
            name="days_in_month",
            templates=(
                "How many days are in {x}?",
                "How many days does {x} have?",
                "Tell me how many days {x} has.",
                "Do you know how many days are in {x}?",
                "How long is the month of {x}?",
                "What is the number of days in {x}?",
                "Can you say how many days {x} has?",
                "{x} has how many days?",
                "Tell me the number of days in {x}.",
                "The days in {x}, please. How many are there?",
            ),
            facts=look_up(
                dict(zip(facts.MONTHS, facts.DAYS_IN_MONTH, strict=True)), "{x} has {y} days."
            ),
        ),
    ) + number_and_word_skills()
