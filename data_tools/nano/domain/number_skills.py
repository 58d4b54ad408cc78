"""How numbers, words and meanings are asked for."""

from data_tools.nano.domain import facts
from data_tools.nano.domain.builders import Skill, arithmetic, count, look_up, spelling, units
from data_tools.nano.domain.facts import NUMBERS


def number_and_word_skills() -> tuple[Skill, ...]:
    """Counting, sums, units, spelling, plurals, definitions and jokes."""
    return (
        Skill(
            name="count_to",
            templates=(
                "Count to {y}.",
                "Can you count to {y}?",
                "Please count up to {y}.",
                "Count from one to {y}.",
                "I want you to count to {y}.",
                "Let me hear you count to {y}.",
            ),
            facts=count((1, last) for last in range(3, 11)),
        ),
        Skill(
            name="count_between",
            templates=(
                "Count from {x} to {y}.",
                "Can you count from {x} to {y}?",
                "Please count from {x} up to {y}.",
                "Start at {x} and count to {y}.",
                "Let me hear you count from {x} to {y}.",
                "The numbers from {x} to {y}, please.",
                "Say the numbers from {x} to {y}.",
            ),
            facts=count((first, first + 2 + first % 3) for first in range(2, 11)),
        ),
        Skill(
            name="sums",
            templates=(
                "What is {x} plus {y}?",
                "How much is {x} plus {y}?",
                "Can you add {x} and {y}?",
                "{x} plus {y}, please.",
                "Tell me the sum of {x} and {y}.",
            ),
            facts=arithmetic(((a, b) for a in range(1, 11) for b in range(1, 11)), "plus"),
        ),
        Skill(
            name="differences",
            templates=(
                "What is {x} minus {y}?",
                "How much is {x} minus {y}?",
                "Can you take {y} away from {x}?",
                "{x} minus {y}, please.",
                "What is left if I take {y} from {x}?",
            ),
            facts=arithmetic(((a, b) for a in range(1, 11) for b in range(1, a + 1)), "minus"),
        ),
        Skill(
            name="doubles",
            templates=(
                "What is double {x}?",
                "What is two times {x}?",
                "What is twice {x}?",
                "Can you double {x}?",
                "Double {x}, please.",
                "Tell me the double of {x}.",
                "How much is two times {x}?",
                "Please double {x}.",
                "Twice {x} is how much?",
            ),
            facts=look_up(
                {NUMBERS[n]: NUMBERS[2 * n] for n in range(1, 11)}, "Two times {x} is {y}."
            ),
        ),
        Skill(
            name="spelling",
            templates=(
                "How do you spell {x}?",
                "Spell the word {x}.",
                "Can you spell {x}?",
                "Please spell {x} for me.",
                "What are the letters of the word {x}?",
                "Tell me how {x} is spelled.",
                "Which letters are in {x}?",
                "The spelling of {x}, please.",
            ),
            facts=spelling(),
        ),
        Skill(
            name="units",
            templates=(
                "How many {x} are in {y}?",
                "Tell me how many {x} are in {y}.",
                "Do you know how many {x} are in {y}?",
                "How many {x} does {y} have?",
                "What is the number of {x} in {y}?",
                "Can you say how many {x} there are in {y}?",
            ),
            facts=units(),
        ),
        Skill(
            name="sides",
            templates=(
                "How many sides does {ax} have?",
                "Tell me how many sides {ax} has.",
                "Do you know how many sides {ax} has?",
                "What number of sides does {ax} have?",
                "Can you count the sides of {ax}?",
                "How many sides are there on {ax}?",
            ),
            facts=look_up(facts.SIDES, "{ax} has {y} sides."),
        ),
        Skill(
            name="plurals",
            templates=(
                "What is the plural of {x}?",
                "Tell me the plural of {x}.",
                "Do you know the plural of {x}?",
                "What is the word for more than one {x}?",
                "Can you give me the plural of {x}?",
                "The plural of {x}, please.",
                "How do you say more than one {x}?",
            ),
            facts=look_up(facts.PLURALS, "The plural of {x} is {y}."),
        ),
        Skill(
            name="definitions",
            templates=(
                "What is {x}?",
                "Can you tell me what {x} is?",
                "Do you know what {x} is?",
                "Please explain what {x} is.",
                "What does the word {bare} mean?",
                "I want to know what {x} is.",
            ),
            facts=look_up(facts.DEFINITIONS, "{x} is {y}."),
        ),
        Skill(
            name="jokes",
            templates=(
                "Tell me a joke about {x}.",
                "Do you know a joke about {x}?",
                "Can you tell me a joke about {x}?",
                "I want to hear a joke about {x}.",
                "Make me laugh with a joke about {x}.",
                "Do you have something funny about {x}?",
                "A joke about {x}, please.",
                "Say something funny about {x}.",
            ),
            facts=look_up(facts.JOKES, "{y}"),
        ),
    )
