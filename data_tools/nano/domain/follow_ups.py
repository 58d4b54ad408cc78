"""Second questions that only make sense after the first: "And of Spain?"."""

from dataclasses import dataclass

from data_tools.nano.domain.builders import Skill, sentence
from data_tools.nano.domain.facts import NUMBERS


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """A question's fact, by its id "skill/key", and what is asked for after its answer.

    named: the thing as the second question names it, "Spain" or "plus two".
    """

    first: str
    key: str
    named: str
    questions: tuple[str, ...]
    answer: str


_TEMPLATES = ("And {x}?", "What about {x}?", "How about {x}?", "And what about {x}?", "Now {x}.")

# skill -> how the thing is named in the second question, and the distance to the next fact
_CHAINS = {
    "capitals": ("x", 5),
    "opposites": ("x", 6),
    "animal_sounds": ("x", 2),
    "colors": ("x", 5),
    "animal_babies": ("ax", 2),
    "animal_legs": ("ax", 2),
    "continents": ("x", 5),
    "plurals": ("x", 3),
}


def follow_ups(skills: tuple[Skill, ...]) -> list[FollowUp]:
    """Look-ups of another thing, and sums that go on from the last result."""
    by_name = {skill.name: skill for skill in skills}
    made = []
    for name, (slot, step) in _CHAINS.items():
        known = by_name[name].facts
        for place in range(0, len(known) - step, step):
            # A neighbour further on: the next row often has the same answer or the next letter.
            first, then = known[place], known[place + step]
            questions = tuple(template.format(x=then.slots[slot]) for template in _TEMPLATES)
            made.append(
                FollowUp(
                    first=f"{name}/{first.key}",
                    key=f"{name}-{first.key}-{then.key}",
                    named=then.slots[slot],
                    questions=questions,
                    answer=then.answer,
                )
            )
    return made + _sums_that_go_on()


def _sums_that_go_on() -> list[FollowUp]:
    made = []
    for a, b, c, sign in _GOING_ON:
        total = a + b
        result = total + c if sign == "plus" else total - c
        x, y = NUMBERS[total], NUMBERS[c]
        made.append(
            FollowUp(
                first=f"sums/{NUMBERS[a]}_plus_{NUMBERS[b]}",
                key=f"sums-{NUMBERS[a]}_plus_{NUMBERS[b]}-{sign}_{y}",
                named=f"{sign} {y}",
                questions=tuple(t.format(x=f"{sign} {y}") for t in _TEMPLATES),
                answer=sentence(f"{x} {sign} {y} is {NUMBERS[result]}."),
            )
        )
    return made


# a + b, then plus or minus c: every step is itself a fact of the sums or differences
_GOING_ON = (
    (2, 3, 1, "plus"),
    (1, 1, 2, "plus"),
    (4, 4, 2, "plus"),
    (3, 6, 1, "plus"),
    (5, 2, 3, "plus"),
    (1, 3, 4, "plus"),
    (6, 2, 1, "minus"),
    (2, 2, 1, "minus"),
    (5, 5, 2, "minus"),
    (3, 3, 3, "minus"),
    (7, 2, 4, "minus"),
    (4, 3, 2, "minus"),
)
