"""Everything in a written English text that holds digits -> words.

Rules run in the order of `RULES`: what is longest and clearest first (dates, times, money), single
numbers last. A month before a day is read as in the United States, 3/5/2024 is March fifth.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

from data_tools.writers.numbers import cardinal, decade, digits, number_words, ordinal, year

MONTHS = (
    "January February March April May June July August September October November December"
).split()
SPELLINGS = "|".join(f"{name[:3]}(?:{name[3:]})?" if name[3:] else name for name in MONTHS)
MONTH = rf"({SPELLINGS}|Sept)\.?"
NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
CURRENCIES = {
    "$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "")
}  # fmt: skip
SCALES = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "B": "billion",
          "bn": "billion", "T": "trillion"}  # fmt: skip
UNITS = {
    "mm": "millimeter", "cm": "centimeter", "m": "meter", "km": "kilometer", "mi": "mile",
    "ft": "foot", "yd": "yard", "mg": "milligram", "g": "gram", "kg": "kilogram", "lb": "pound",
    "lbs": "pound", "oz": "ounce", "ml": "milliliter", "mL": "milliliter", "l": "liter",
    "L": "liter", "ms": "millisecond", "s": "second", "sec": "second", "min": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour", "Hz": "hertz", "kHz": "kilohertz",
    "MHz": "megahertz", "GHz": "gigahertz", "W": "watt", "kW": "kilowatt", "kWh": "kilowatt hour",
    "V": "volt", "mA": "milliampere", "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte",
    "GB": "gigabyte", "TB": "terabyte", "kcal": "kilocalorie", "cal": "calorie",
    "mph": "mile per hour", "kph": "kilometer per hour", "km/h": "kilometer per hour",
    "m/s": "meter per second",
}  # fmt: skip
UNIT = "|".join(sorted(UNITS, key=len, reverse=True))
PLURALS = {"foot": "feet", "penny": "pence", "yen": "yen", "half": "halves"}
VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅛": "1/8"}
POWERS = {"2": "squared", "3": "cubed"}


def plural(noun: str, amount: str) -> str:
    """The noun's form after that written amount: "miles per hour", but "1 mile per hour"."""
    if amount == "1" or noun.endswith("hertz"):
        return noun
    first, space, rest = noun.partition(" per ")
    return PLURALS.get(first, f"{first}s") + space + rest


def say_date(month: int, day: int, years: str | None) -> str:
    """ "March third, twenty twenty-four"; years: digits, or None."""
    ending = f", {year(int(years))}" if years else ""
    return f"{MONTHS[month - 1]} {ordinal(day)}{ending}"


def month_number(name: str) -> int:
    """1 to 12, of a full or short name."""
    return [month[:3] for month in MONTHS].index(name[:3]) + 1


def numeric_date(match: re.Match[str], years: int, month: int, day: int) -> str:
    """The date in words; what is no date stays as it was written."""
    if month > 12:  # a day that comes first
        month, day = day, month
    try:
        datetime.date(years, month, day)
    except ValueError:
        return match[0]
    return say_date(month, day, str(years))


def iso_date(match: re.Match[str]) -> str:
    """2024-03-05."""
    return numeric_date(match, *(int(part) for part in match.groups()))


def slashed_date(match: re.Match[str]) -> str:
    """3/5/2024 or 3/5/24: the month first, two digits from 1950 to 2049."""
    month, day, years = match.groups()
    century = 0 if len(years) == 4 else 1900 if int(years) >= 50 else 2000
    return numeric_date(match, century + int(years), int(month), int(day))


def month_day(match: re.Match[str]) -> str:
    """March 5 or Mar 5, 2024."""
    name, day, years = match.groups()
    return say_date(month_number(name), int(day), years) if 1 <= int(day) <= 31 else match[0]


def day_month(match: re.Match[str]) -> str:
    """5 March or 5th of March 2024."""
    day, name, years = match.groups()
    if not 1 <= int(day) <= 31:
        return match[0]
    ending = f", {year(int(years))}" if years else ""
    return f"the {ordinal(int(day))} of {MONTHS[month_number(name) - 1]}{ending}"


def clock(match: re.Match[str]) -> str:
    """14:05 or 2:05 pm; what is no time stays as it was written."""
    hour, minute, half = int(match[1]), int(match[2] or 0), match[3]
    if hour > 24 or minute > 59:
        return match[0]
    words = cardinal(hour)
    if minute:
        words += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif not half:
        words += " o'clock" if 1 <= hour <= 12 else " hundred hours"
    return words + (f" {half.lower()} m" if half else "")


def money(match: re.Match[str]) -> str:
    """$3.50, $2 million."""
    noun, part = CURRENCIES[match[1]]
    amount, scale = match[2], match[3]
    if scale:
        return f"{number_words(amount)} {SCALES.get(scale, scale)} {plural(noun, '')}"
    whole, _, cents = amount.partition(".")
    if len(cents) != 2 or not part:
        return f"{number_words(amount)} {plural(noun, amount)}"
    small = f"{cardinal(int(cents))} {plural(part, cents.lstrip('0'))}"
    if not int(whole.replace(",", "")):
        return small
    large = f"{number_words(whole)} {plural(noun, whole)}"
    return f"{large} and {small}" if int(cents) else large


def degrees(match: re.Match[str]) -> str:
    """20 °C."""
    scale = {"C": " Celsius", "F": " Fahrenheit"}.get(match[2], "")
    return f"{number_words(match[1])} {plural('degree', match[1])}{scale}"


def measure(match: re.Match[str]) -> str:
    """5 km, 3 m²."""
    square = {"2": "square ", "²": "square ", "3": "cubic ", "³": "cubic "}.get(match[3], "")
    return f"{number_words(match[1])} {square}{plural(UNITS[match[2]], match[1])}"


def fraction(match: re.Match[str]) -> str:
    """1/2, 2 3/4; 24/7 and the like as "over"."""
    whole, above, below = match.groups()
    numerator, denominator = int(above), int(below)
    if not 0 < numerator < denominator <= 100:
        words = f"{cardinal(numerator)} over {cardinal(denominator)}"
    else:
        noun = {2: "half", 4: "quarter"}.get(denominator, ordinal(denominator))
        words = f"{cardinal(numerator)} {plural(noun, above)}"
    return f"{number_words(whole)} and {words}" if whole else words


def power(match: re.Match[str]) -> str:
    """^2 or ^n: "squared", "to the power of n"."""
    return f" {POWERS.get(match[1]) or 'to the power of ' + match[1]}"


def version(match: re.Match[str]) -> str:
    """3.11.2, part by part."""
    return " " + " point ".join(number_words(part) for part in match[0].split("."))


Replacement = str | Callable[[re.Match[str]], str]
RULES: tuple[tuple[str, Replacement], ...] = (
    (r"(?<=\d)([½⅓⅔¼¾⅛])", lambda match: f" {VULGAR[match[1]]}"),
    (r"([½⅓⅔¼¾⅛])", lambda match: VULGAR[match[1]]),
    (r"\b(\d{4})-(\d{2})-(\d{2})\b", iso_date),
    (r"\b(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})\b", slashed_date),
    (rf"\b(?:[Tt]he )?(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {MONTH}(?:,? (\d{{4}}))?\b", day_month),
    (rf"\b{MONTH} (\d{{1,2}})(?:st|nd|rd|th)?(?:,? (\d{{4}}))?\b", month_day),
    (r"(?:\+\d{1,3}[ .-])?(?:\(\d{3}\) ?|\b\d{3}[ .-])\d{3}[ .-]\d{4}\b|\b\d{3}-\d{4}\b",
     lambda match: digits(match[0])),
    (r"\b(\d{1,2}):(\d{2})(?::\d{2})?(?:\s?([apAP])\.?[mM]\b\.?)?", clock),
    (r"\b(\d{1,2})()\s?([apAP])(?:\.[mM]\.|[mM]\b)", clock),
    (r"\b(\d+):(\d+)\b", r"\1 to \2"),
    (r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){2,}\b", version),
    (r"(?<=\d)\s?\u2013\s?(?=[$€£¥]?\d)|(?<=\d)-(?=[$€£¥]?\d)", " to "),
    (r"(?<=\d) - (?=\d)", " minus "),
    (r"(?<![\w.)])-(?=[$€£¥]?\.?\d)", " minus "),
    (r"(?<=\d)\s?[x*\u00d7]\s?(?=\d)", " times "),
    (r"(?<=\d) ?/ (?=\d)", " divided by "),
    (rf"([$€£¥])\s?({NUMBER})(?:\s?(k|K|m|M|bn|B|T|thousand|million|billion|trillion)\b)?", money),
    (rf"({NUMBER})\s?%", lambda match: f"{number_words(match[1])} percent"),
    (rf"({NUMBER})\s?°\s?([CF]\b)?", degrees),
    (r"\b((?:1[1-9]|20)\d0)'?s\b", lambda match: decade(int(match[1]))),
    (r"(?<!\w)'?([2-9]0)'?s\b", lambda match: decade(int(match[1]))),
    (rf"(?<![\w.,])({NUMBER})\s?({UNIT})([23²³])?(?![\w/])", measure),
    (r"\b(\d{1,24})(?:st|nd|rd|th)\b", lambda match: ordinal(int(match[1]))),
    (r"\b(?:(\d+) )?(\d{1,3})/(\d{1,3})\b", fraction),
    (r"\s?\^\s?\(?(-?\d+|\w)\)?", power),
    (r"(?:#|\b[Nn]o\.)\s?(?=\d)", "number "),
    (r"(?<=[^\W\d_])-?(?=\d)|(?<=\d)-?(?=[^\W\d_])", " "),  # mp3, COVID-19, 5-year
    (r"(?<![\d.,])((?:1[1-9]|20)\d\d)(?![\d]|[.,]\d)", lambda match: year(int(match[1]))),
    (rf"{NUMBER}|\.\d+", lambda match: f" {number_words(match[0])} "),
)  # fmt: skip
COMPILED = tuple((re.compile(pattern, re.ASCII), replacement) for pattern, replacement in RULES)


def say_numbers(text: str) -> str:
    """The text without a digit."""
    for pattern, replacement in COMPILED:
        text = pattern.sub(replacement, text)
    return text
