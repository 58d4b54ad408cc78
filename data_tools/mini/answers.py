"""What a language model answers to the asks that have no answer of their own.

The model is meant to be the one that will be trained: so it learns to hear, and keeps what it knew.
What it says is kept where it is sound. Where a set's own answers show that it does not know, it is
honest.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from data_tools.manifest import Record, RecordTurn
from data_tools.steps import run_step
from data_tools.talk import Ask
from data_tools.writers import RespondStep, WriterConfig, spoken
from omni.files import read_json, write_json

FILE = "answers.json"  # question -> answer, "" where nothing that was said could be kept
JOURNAL = ".steps/answers.jsonl"
PROMPT = "{instruction} Answer in one short sentence."
MAX_WORDS = 36  # about 13 s
SENTENCES = 2
HONEST = (
    "I do not know that.",
    "I am not sure about that.",
    "I am sorry, I do not know the answer.",
)
HONEST_PART = 5  # of so many questions that it doesn't know, one is kept
REPEATED = 3  # words in a row that stand twice are a loop
FEWEST = 2  # words
# A model that speaks of itself, or waits for the question that it has.
ASIDE = re.compile(
    r"\b(?:chatbot|language model|ai|as an assistant|smollm|hugging face|any confusion)\b|"
    r"\bready to (?:help|assist)|your question|^sorry\b|i'm sorry|how can i (?:help|assist)",
    re.IGNORECASE,
)


def write_answers(
    folder: Path, asks: Sequence[Ask], writer: WriterConfig, *, prompt: str = PROMPT
) -> dict[str, str]:
    """Asks the writer for what has no answer, or for the rest of it, and keeps what is sound.

    Every batch is kept in a journal, and every reply beside it: a killed run goes on where it was.
    """
    gold = {ask.turns[0][0]: ask.gold for ask in asks if not ask.turns[-1][1]}
    records = [
        Record(id=place_of(question), turns=(RecordTurn(role="user", text=question),))
        for question in gold
    ]
    step = RespondStep(writer=writer, prompt=prompt, max_words=10 * MAX_WORDS)
    (folder / JOURNAL).parent.mkdir(parents=True, exist_ok=True)
    result = run_step(records, step, root=folder, journal=folder / JOURNAL, max_left_out=1.0)
    said = {record.turns[0].text: record.turns[1].text for record in result.records}
    kept = {question: sound(said.get(question, ""), gold[question]) for question in gold}
    for number, question in enumerate(sorted(q for q, answer in kept.items() if answer is None)):
        honest = number % HONEST_PART == 0 and question in said
        kept[question] = HONEST[number // HONEST_PART % len(HONEST)] if honest else ""
    answers = {question: answer or "" for question, answer in kept.items()}
    write_json(folder / FILE, answers)
    return written(folder)


def place_of(question: str) -> str:
    """An id, by which questions of like length stand together and so share a batch."""
    digest = hashlib.sha256(question.encode()).hexdigest()[:16]
    return f"{len(question):03}-{digest}"


def written(folder: Path) -> dict[str, str]:
    """The answers that were kept so far."""
    path = folder / FILE
    found = read_json(path) if path.is_file() else {}
    return {question: answer for question, answer in found.items() if answer}


def sound(answer: str, gold: Sequence[str] = ()) -> str | None:
    """One or two sentences of it; "" if it is no good, None if it shows that it doesn't know."""
    sentences = re.split(r"(?<=[.!?])\s+", answer)[:SENTENCES]
    while len(sentences) > 1 and len(" ".join(sentences).split()) > MAX_WORDS:
        sentences.pop()
    text = " ".join(sentences)
    words = re.findall(r"[a-z']+", text.lower())
    if not FEWEST <= len(words) <= MAX_WORDS or loops(words) or ASIDE.search(text):
        return ""
    if gold and not any(knows(text, answer) for answer in gold):
        return None
    return text


def loops(words: Sequence[str]) -> bool:
    """Whether some words in a row stand twice."""
    rows = [tuple(words[at : at + REPEATED]) for at in range(len(words) - REPEATED + 1)]
    return len(set(rows)) < len(rows)


def knows(text: str, gold: str) -> bool:
    """Whether the answer names what the set names, in words."""
    said, wanted = (
        " ".join(re.findall(r"[a-z]+", words.lower())) for words in (text, spoken(gold))
    )
    return bool(wanted) and f" {wanted} " in f" {said} "
