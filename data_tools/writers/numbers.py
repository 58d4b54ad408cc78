"""Numbers as an English speaker says them, in American style: no "and", hyphens in tens."""

from num2words import num2words

LARGEST = 10**27 - 1  # who says more than septillions?


def cardinal(number: int) -> str:
    """-21 -> "minus twenty-one". Raises ValueError beyond LARGEST; say its digits instead."""
    if abs(number) > LARGEST:
        raise ValueError(f"{number}: has no name up to {LARGEST:.0e}; say its digits")
    return _american(num2words(number))


def ordinal(number: int) -> str:
    """21 -> "twenty-first". number: at least 0."""
    return _american(num2words(number, to="ordinal"))


def year(number: int) -> str:
    """1905 -> "nineteen oh five", 2007 -> "two thousand seven", 2024 -> "twenty twenty-four"."""
    if not 1100 <= number <= 9999 or number % 1000 < 10:
        return cardinal(number)
    return _american(num2words(number, to="year")).replace("oh-", "oh ")


def _american(words: str) -> str:
    """num2words speaks British English: "one thousand, two hundred and five"."""
    return words.replace(",", "").replace(" and ", " ")


def decade(number: int) -> str:
    """1990 -> "nineteen nineties", 2000 -> "two thousands". number: its first year."""
    words = year(number)
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"


def digits(text: str) -> str:
    """Each digit of the text: "007" -> "zero zero seven"."""
    return " ".join(num2words(int(character)) for character in text if character.isdecimal())


def number_words(text: str) -> str:
    """A number as it is written: "1,250.05" -> "one thousand two hundred fifty point zero five".

    text: ASCII digits with an optional minus, thousands separators and decimal point. A number
    that starts with a needless zero, or has no name, is said digit by digit.
    """
    sign, text = ("minus ", text[1:]) if text.startswith(("-", "\N{MINUS SIGN}")) else ("", text)
    whole, point, fraction = text.replace(",", "").partition(".")
    if (len(whole) > 1 and whole.startswith("0")) or len(whole) > len(str(LARGEST)):
        words = digits(whole)
    else:
        words = cardinal(int(whole or 0))
    return sign + words + (f" point {digits(fraction)}" if point and fraction else "")
