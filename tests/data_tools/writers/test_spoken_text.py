"""What is read out: numbers as words that give the number back, and nothing a voice can't say."""

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_tools.writers.numbers import (
    LARGEST,
    cardinal,
    decade,
    number_words,
    ordinal,
    year,
)
from data_tools.writers.spoken_text import first_sentences, holds_code, spoken

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
TENS = "- ten twenty thirty forty fifty sixty seventy eighty ninety".split()
SCALES = "- thousand million billion trillion quadrillion quintillion sextillion septillion".split()
VALUES = {word: value for value, word in enumerate(ONES)} | {
    word: 10 * value for value, word in enumerate(TENS)
}


def value_of(words: str) -> int:
    """The number that English words name: the other way round, for the tests."""
    sign, words = (-1, words[6:]) if words.startswith("minus ") else (1, words)
    total = group = 0
    for word in words.replace("-", " ").split():
        if word in SCALES:
            total, group = total + group * 1000 ** SCALES.index(word), 0
        elif word == "hundred":
            group *= 100
        else:
            group += VALUES[word]
    return sign * (total + group)


@given(st.integers(-LARGEST, LARGEST) | st.integers(-3000, 3000))
@example(0)
@example(LARGEST)
@example(1_000_001)
def test_the_words_of_a_number_give_the_number_back(number: int) -> None:
    assert value_of(cardinal(number)) == number


@given(st.integers(0, LARGEST))
def test_a_number_is_said_alike_with_and_without_separators(number: int) -> None:
    assert number_words(f"{number:,}") == number_words(str(number)) == cardinal(number)


@given(st.integers(0, 10**9), st.text("0123456789", min_size=1, max_size=6))
def test_a_decimal_fraction_is_said_digit_by_digit(whole: int, fraction: str) -> None:
    words, _, said = number_words(f"{whole}.{fraction}").partition(" point ")
    assert value_of(words) == whole
    assert [VALUES[word] for word in said.split()] == [int(digit) for digit in fraction]


@given(st.integers(1100, 2099))
def test_a_year_names_its_century_and_its_year(number: int) -> None:
    words = year(number).replace("oh ", "")
    for word in ("hundred", "thousand"):
        if words.endswith(word):
            assert value_of(words) == number
            return
    pairs = {f"{cardinal(number // 100)} {cardinal(number % 100)}", cardinal(number)}
    assert words in pairs


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (ordinal(1), "first"), (ordinal(12), "twelfth"), (ordinal(20), "twentieth"),
        (ordinal(33), "thirty-third"), (ordinal(100), "one hundredth"),
        (year(1905), "nineteen oh five"), (year(1900), "nineteen hundred"),
        (year(2000), "two thousand"), (year(2007), "two thousand seven"),
        (year(2024), "twenty twenty-four"), (year(1066), "one thousand sixty-six"),
        (decade(1990), "nineteen nineties"), (decade(2000), "two thousands"),
        (number_words("007"), "zero zero seven"), (number_words("-2.5"), "minus two point five"),
        (number_words("1" * 40), " ".join(["one"] * 40)),
    ],
)  # fmt: skip
def test_ordinals_years_and_odd_numbers_are_said_as_people_say_them(
    words: str, expected: str
) -> None:
    assert words == expected


def test_a_number_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="say its digits"):
        cardinal(LARGEST + 1)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("What is 25 * 4?", "What is twenty-five times four?"),
        ("On 3/5/2024 at 3:05 pm.", "On March fifth, twenty twenty-four at three oh five p m."),
        ("25/12/1999 came.", "December twenty-fifth, nineteen ninety-nine came."),
        ("Born March 5, 1990; died 2008-11-02.",
         "Born March fifth, nineteen ninety, died November second, two thousand eight."),
        ("The 5th of May", "The fifth of May."),
        ("2024-13-45", "Twenty twenty-four to thirteen to forty-five."),
        ("5:00, 17:00 and 10 a.m. sharp",
         "Five o'clock, seventeen hundred hours and ten a m sharp."),
        ("$3.50, $1, £0.99 or €2 million",
         "Three dollars and fifty cents, one dollar, ninety-nine pence or two million euros."),
        ("5% of 1 km at 60 mph",
         "Five percent of one kilometer at sixty miles per hour."),
        ("20°C, -5 °F, 12 m²",
         "Twenty degrees Celsius, minus five degrees Fahrenheit, twelve square meters."),
        ("The 1990s and the '80s", "The nineteen nineties and the eighties."),
        ("5-10 or 3 - 2", "Five to ten or three minus two."),
        ("mp3, COVID-19, 24-hour, 5-year-old",
         "Mp three, COVID nineteen, twenty-four hour, five year-old."),
        ("1 1/2 cups, 3/4, ½, 7/3, x^2, 10^6",
         "One and one half cups, three quarters, one half, seven over three, x squared, "
         "ten to the power of six."),
        ("call 555-123-4567", "Call five five five one two three four five six seven."),
        ("No. 5, the 21st, 1,000,000 and 3.14",
         "Number five, the twenty-first, one million and three point one four."),
        ("Ratio 16:9, version 2.0.1", "Ratio sixteen to nine, version two point zero point one."),
        ("C++ and/or C#, e.g. A & B, his/her, U.S. law, etc.",
         "C plus plus and or C sharp, for example A and B, his or her, U S law, and so on."),
        ("Visit https://www.example.com/a?b=1, or mail bob@site.org.",
         "Visit example dot com, or mail bob at site dot org."),
    ],
)  # fmt: skip
def test_what_is_written_short_is_said_in_full(written: str, said: str) -> None:
    assert spoken(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Tips:\n1. Sleep\n2. Eat\n\n- **walk**: daily!", "Tips. Sleep. Eat. Walk, daily!"),
        ("A line\nwraps here.\n\nNext", "A line wraps here. Next."),
        ("| Name | Age |\n|---|---|\n| Ann | 7 |", "Name, Age. Ann, seven."),
        ("# Title\n> *so* it is", "Title. So it is."),
        ("Iron (a metal (Fe)) rusts [1, 2].", "Iron, a metal, Fe, rusts."),
        ("A [link](http://a.b/c) and <b>bold</b> `x`", "A link and bold x."),
        ("Run:\n```\nx = 1\n```\nDone.", "Run. Done."),
        ("\U0001f389 Great!! Really?! \"Yes\" 'no' don't\N{EM DASH}stop\N{HORIZONTAL ELLIPSIS}",
         "Great! Really? Yes no don't, stop."),
        ("  ... \U0001f389 ", ""),
    ],
)  # fmt: skip
def test_markup_lists_and_brackets_become_sentences(written: str, said: str) -> None:
    assert spoken(written) == said


def test_another_language_keeps_its_numbers_and_its_letters() -> None:
    assert spoken("* Es sind 3 Äpfel (rot) & 5 %", "de") == "Es sind 3 Äpfel, rot, 5."


MARKED = st.text(st.sampled_from("ab Z19 0.,-'/:()[]*#$%^°\n½|é<>=_`"), max_size=30)
WRITTEN = MARKED | st.text(max_size=30)


@settings(max_examples=300)
@given(WRITTEN)
def test_nothing_is_left_that_a_voice_can_not_say(text: str) -> None:
    said = spoken(text)
    kinds = {unicodedata.category(character)[0] for character in said if character not in ".,?!'- "}
    assert kinds <= {"L", "M"}
    assert not said or re.search(r"[.?!]$", said)
    assert not re.search(r"  | [.,?!]|[.,?!]{2}", said)


@settings(max_examples=300)
@given(MARKED)
def test_what_is_spoken_stays_as_it_is(text: str) -> None:
    said = spoken(text)
    assert spoken(said) == said


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```\nprint()\n```", True),
        ("def f(x):\n    return x + 1;\n", True),
        ("for (i = 0; i < 3; i++) {\n  x += i;\n}", True),
        ("Return the book to me; then import some goods.", False),
        ("From here: go on.\nLet me see.", False),
    ],
)
def test_programs_are_told_from_prose(text: str, code: bool) -> None:
    assert holds_code(text) is code


def test_sentences_are_kept_whole_up_to_a_number_of_words() -> None:
    text = "One two. Three four five! Six?"
    assert first_sentences(text, 5) == "One two. Three four five!"
    assert first_sentences(text, 6) == text
    assert first_sentences(text, 1) == ""
