"""Written text -> text that a speech synthesiser can say: no markup, lists, brackets or symbols.

Numbers, dates, money, units and symbols become English words; text in another language keeps its
numbers, which its own synthesiser says. What is spoken already stays as it is.
"""

from __future__ import annotations

import re
import unicodedata

from data_tools.writers.spoken_numbers import say_numbers

ABBREVIATIONS = {
    "e.g": "for example", "i.e": "that is", "etc": "and so on", "vs": "versus", "dr": "Doctor",
    "mr": "Mister", "mrs": "Missus", "ms": "Miss", "prof": "Professor", "approx": "approximately",
    "w/o": "without", "w/": "with",
}  # fmt: skip
ABBREVIATION = re.compile(
    r"(?<!\w)(?<!\d )("  # "5 ms" are milliseconds
    + "|".join(re.escape(word) for word in ABBREVIATIONS)
    + r")(?:(?<=\w)\.)?(?!\w)",
    re.IGNORECASE,
)
# With what may close behind it; of Chinese and Japanese too, where no space follows.
SENTENCE_END = re.compile("[.!?]+[\"')\\]*_\u201d\u2019]*(?=\\s|$)|[\u3002\uff01\uff1f]")
SYMBOLS = {
    "&": "and", "@": "at", "+": "plus", "=": "equals", "<": "is less than", ">": "is more than",
    "≤": "is at most", "≥": "is at least", "≠": "is not", "≈": "about", "~": "about",
    "±": "plus or minus",
    "\N{MULTIPLICATION SIGN}": "times", "÷": "divided by", "√": "the square root of", "π": "pi",
    "²": "squared", "³": "cubed", "%": "percent", "°": "degrees", "→": "to", "€": "euros",
    "£": "pounds", "$": "dollars", "¥": "yen", "©": "copyright",
}  # fmt: skip
PLAIN = str.maketrans("\u2018\u2019\u201c\u201d\u2212", "''\"\"-")  # curly quotes, minus sign
FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
CODE_LINE = re.compile(
    r"[{};]\s*$|^\s*(?:def|class|import|from|return|SELECT|#include|public|var|let|const)\b.*[(:;={]",
    re.MULTILINE,
)
ITEM = re.compile(r"\s*(?:[-*+•\u2013]|\(?\d{1,3}[.)]|\(?[a-z]\))\s+(?=\S)")
RULE = re.compile(r"\s*[-*_=|:\s]{3,}\s*")  # a line drawn, or the one under a table's head


def spoken(text: str, language: str = "en") -> str:
    """What a person would read out; empty if nothing is left to say."""
    text = unicodedata.normalize("NFC", text).translate(PLAIN)
    text = without_brackets(without_lists(without_markup(text)))
    if language == "en":
        text = without_abbreviations(text)
        text = say_numbers(text)
        text = say_symbols(text)
    return punctuated("".join(said(character, language) for character in text))


def holds_code(text: str) -> bool:
    """Whether a part of the text is a program, which reading out would not help."""
    return "```" in text or len(CODE_LINE.findall(text)) >= 2


def full_sentences(text: str) -> str:
    """Up to the end of the last full sentence; empty if there is none."""
    for mark in reversed(list(SENTENCE_END.finditer(text))):
        before = text[: mark.start()]
        line = before.rpartition("\n")[2].strip()
        word = line.rpartition(" ")[2].lower()
        initial = len(word) == 1 and word.isalpha()
        # A list's number; or the start of "3.5", where the text is cut off.
        number = line.isdigit() or (word[-1:].isdigit() and not text[mark.end() :].strip())
        if word and not (word in ABBREVIATIONS or initial or number):
            return text[: mark.end()].strip()
    return ""


def first_sentences(text: str, max_words: int) -> str:
    """The sentences from the start that have at most `max_words` together; may be empty."""
    kept: list[str] = []
    words = 0
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        words += len(sentence.split())
        if words > max_words:
            break
        kept.append(sentence)
    return " ".join(kept)


def without_markup(text: str) -> str:
    """Markdown and HTML, down to the words; a web address becomes its domain."""
    text = FENCE.sub(" ", text)
    text = re.sub(r"</?[A-Za-z][^<>]*>", " ", text)
    text = re.sub(r"!?\[([^\]\n]*)\]\([^)\s]*\)", r"\1", text)
    text = re.sub(r"(?:https?://|\bwww\.)(?:www\.)?([\w-]+(?:\.[\w-]+)+)\S*?(?=[.,;:!?)]*(?:\s|$))",
                  lambda match: dotted(match[1]), text)  # fmt: skip
    text = re.sub(r"\b([\w.+-]+)@([\w-]+(?:\.[\w-]+)+)",
                  lambda match: f"{dotted(match[1])} at {dotted(match[2])}", text)  # fmt: skip
    text = re.sub(r"^\s*>+\s+", "", text, flags=re.MULTILINE)
    text = re.sub(r"^[ \t]*#{1,6}[ \t]+(.*)$", "\n\\1\n", text, flags=re.MULTILINE)
    text = re.sub(r"\*\*|__|~~|`", "", text)
    return re.sub(r"(?<!\w)([*_])(?=\S)([^*_\n]+?)(?<=\S)\1(?!\w)", r"\2", text)


def dotted(name: str) -> str:
    """ "example.org" -> "example dot org"."""
    return name.replace(".", " dot ")


def without_lists(text: str) -> str:
    """One paragraph: items, table rows and paragraphs become sentences of it."""
    sentences: list[str] = []
    joins = False
    for line in text.splitlines():
        if not line.strip() or RULE.fullmatch(line):
            joins = False
            continue
        item = ITEM.match(line)
        row = line.strip().startswith("|")
        words = line[item.end() if item else 0 :].strip().strip("|").replace("|", ",").strip()
        if joins and not item and not row and sentences:
            sentences[-1] += f" {words}"
        elif words:
            sentences.append(words)
        joins = not item and not row
    ended = [
        line if line.endswith((".", "!", "?")) else line.rstrip(":;, ") + "." for line in sentences
    ]
    return re.sub(r"(?<=\s)\(?\d{1,2}\)\s", "", " ".join(ended))  # 1) an inline list, 2) such as it


def without_brackets(text: str) -> str:
    """An aside in brackets becomes one between commas; numbers of references are dropped."""
    text = re.sub(r"\s*\[\d+(?:\s*[,-]\s*\d+)*\]", "", text)
    text = re.sub(r"(?<=\w)\((e?s)\)", r"\1", text)  # item(s)
    previous = None
    while previous != text:
        previous = text
        text = re.sub(r"\s*\(\s*([^()]*?)\s*\)", r", \1, ", text)
    return re.sub(r"[\[\](){}]", " ", text)


def without_abbreviations(text: str) -> str:
    """ "e.g." -> "for example", "U.S." -> "U S"; a dot that ends the sentence stays."""
    text = re.sub(r"\betc\.(?=\s+[A-Z]|\s*$)", "and so on.", text)  # its dot ends the sentence too
    text = ABBREVIATION.sub(lambda match: ABBREVIATIONS[match[1].lower()], text)
    return re.sub(r"\b(?:[A-Za-z]\.){2,}", lambda match: " ".join(match[0].split(".")), text)


def say_symbols(text: str) -> str:
    """Symbols as words: "C#" -> "C sharp", "and/or" -> "and or", "%" -> "percent"."""
    text = re.sub(r"\b([A-G])#", r"\1 sharp", text)
    text = re.sub(r"(?<=[a-z])/(?=[a-z])", " or ", text.replace("and/or", "and or"))
    return "".join(f" {SYMBOLS[c]} " if c in SYMBOLS else c for c in text)


def said(character: str, language: str) -> str:
    """The character if it is said or read as a pause, else a space."""
    if character in ".,?!'-":
        return character
    if character in ":;":
        return ","
    if character in "\u2014\u2013":
        return " - "  # becomes a comma
    if character == "…":
        return ". "
    kinds = "LM" if language == "en" else "LMN"
    variation = "\ufe00" <= character <= "\ufe0f"  # chooses how an emoji is drawn
    kept = unicodedata.category(character)[0] in kinds and not variation
    return character if kept else " "


def punctuated(text: str) -> str:
    """Single spaces, single marks, a capital at the start and an end mark at the end."""
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)  # quotation marks, not apostrophes
    text = re.sub(r"(?<!\w)-+|-+(?!\w)", " , ", text)  # dashes, not hyphens
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" ?([.,?!])", r"\1", text)
    text = re.sub(r"[.,?!]{2,}", strongest, text)
    text = re.sub(r"([.,?!])(?=\w)", r"\1 ", text).strip(" .,?!'-") + ending(text)
    text = re.sub(r"(?:^|[.?!] )\w", lambda match: match[0].upper(), text)
    return text if any(map(str.isalnum, text)) else ""


def strongest(marks: re.Match[str]) -> str:
    """Of several marks in a row the one that says most."""
    return next(mark for mark in "?!.," if mark in marks[0])


def ending(text: str) -> str:
    """The mark that a text ends with if it asks or exclaims, else a full stop."""
    last = text.rstrip(" '-")[-1:]
    return last if last in "?!" else "."
