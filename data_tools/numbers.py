"""Numbers as an English speaker says them, in American style: no "and", hyphens in tens."""

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
TENS = "- ten twenty thirty forty fifty sixty seventy eighty ninety".split()
SCALES = "- thousand million billion trillion quadrillion quintillion sextillion septillion".split()
LARGEST = 1000 ** len(SCALES) - 1
IRREGULAR_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth",
    "eight": "eighth", "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip


def cardinal(number: int) -> str:
    """-21 -> "minus twenty-one". Raises ValueError beyond LARGEST; say its digits instead."""
    if number < 0:
        return f"minus {cardinal(-number)}"
    if number > LARGEST:
        raise ValueError(f"{number}: has no name up to {SCALES[-1]}; say its digits")
    if number == 0:
        return ONES[0]
    groups = []
    for scale in SCALES:
        number, group = divmod(number, 1000)
        if group:
            groups.append(below_thousand(group) + ("" if scale == "-" else f" {scale}"))
        if not number:
            break
    return " ".join(reversed(groups))


def below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    words = [f"{ONES[hundreds]} hundred"] if hundreds else []
    if rest:
        words.append(below_hundred(rest))
    return " ".join(words)


def below_hundred(number: int) -> str:
    if number < len(ONES):
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{ONES[ones]}" if ones else "")


def ordinal(number: int) -> str:
    """21 -> "twenty-first". number: at least 0."""
    words = cardinal(number)
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    last = words[cut:]
    if last in IRREGULAR_ORDINALS:
        return words[:cut] + IRREGULAR_ORDINALS[last]
    return words[:cut] + (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")


def year(number: int) -> str:
    """1905 -> "nineteen oh five", 2007 -> "two thousand seven", 2024 -> "twenty twenty-four"."""
    century, rest = divmod(number, 100)
    if not 11 <= century <= 99 or (century % 10 == 0 and rest < 10):
        return cardinal(number)
    if not rest:
        return f"{below_hundred(century)} hundred"
    return f"{below_hundred(century)} {'oh ' if rest < 10 else ''}{below_hundred(rest)}"


def decade(number: int) -> str:
    """1990 -> "nineteen nineties", 2000 -> "two thousands". number: its first year."""
    words = year(number)
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"


def digits(text: str) -> str:
    """Each digit of the text: "007" -> "zero zero seven"."""
    return " ".join(ONES[int(character)] for character in text if character.isdecimal())


def number_words(text: str) -> str:
    """A number as it is written: "1,250.05" -> "one thousand two hundred fifty point zero five".

    text: ASCII digits with an optional minus, thousands separators and decimal point. A number
    that starts with a needless zero, or has no name, is said digit by digit.
    """
    sign, text = ("minus ", text[1:]) if text.startswith(("-", "\N{MINUS SIGN}")) else ("", text)
    whole, point, fraction = text.replace(",", "").partition(".")
    if (len(whole) > 1 and whole.startswith("0")) or len(whole) > 3 * len(SCALES):
        words = digits(whole)
    else:
        words = cardinal(int(whole or 0))
    return sign + words + (f" point {digits(fraction)}" if point and fraction else "")
