"""Refusals: of what is no question to be answered, and of questions that are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from data_tools.manifest import Manifest
from omni.metrics import normalise
from train.data import Example
from train.evaluation.journal import Journal
from train.evaluation.judges import NORMALISER
from train.evaluation.report import share_of

REFUSE = "refuse"  # a record's kind: it is not to be answered
UNKNOWN = "unknown"  # what is English and can't be known, whatever its skill
OWN_GROUPS = ("sound", "language")  # skills that are no English
# A model says it in words of its own too.
SAID = re.compile(
    r"(?:(?:i am |i'm )?(?:very )?sorry (?:but )?)?"
    r"(?:i'm not|i (?:am not|have no|do not|don't|did not|didn't|could not|couldn't|"
    r"can not|cannot|can't)) "
    r"(?:(?:quite|really) )?(?:catch|hear|understand|know|sure|news)\b"
)


def known_refusals(manifest: Manifest) -> frozenset[str]:
    """Every answer, in normalised words, that the manifest gives to what is not to be answered."""
    return frozenset(
        normalise(record.turns[-1].text, NORMALISER)
        for record in manifest.records
        if record.provenance.get("kind") == REFUSE and len(record.turns) % 2 == 0
    )


def is_refusal(text: str, known: frozenset[str]) -> bool:
    """Whether an answer says that something was not caught, or is not known."""
    words = normalise(text, NORMALISER)
    return words in known or SAID.match(words) is not None


def ordinary(items: Sequence[Example], known: frozenset[str]) -> list[Example]:
    """The questions that have an answer."""
    return [
        item for item in items if item.kind != REFUSE and not is_refusal(item.answer.text, known)
    ]


def refused_share(
    journal: Journal, label: str, items: Sequence[Example], known: frozenset[str]
) -> float | None:
    """Of the answers under a label, how many are refusals; None of none."""
    return share_of([is_refusal(journal[f"{label} {item.id}"]["text"], known) for item in items])


def report_refusals(
    journal: Journal,
    label: str,
    items: Sequence[Example],
    known: frozenset[str],
    *,
    control: str | None = None,
) -> dict[str, Any]:
    """Shares refused: of ordinary questions, and of what is to be refused, by group. Nothing, where
    the manifest has nothing to refuse. control: label of the answers to other questions' audio."""
    if not known:
        return {}
    groups: dict[str, list[Example]] = {}
    for item in items:
        if item.kind == REFUSE:
            group = item.skill if item.skill in OWN_GROUPS else UNKNOWN
            groups.setdefault(group, []).append(item)
    asked = ordinary(items, known)
    report: dict[str, Any] = {
        "ordinary": len(asked),
        "questions_refused": refused_share(journal, label, asked, known),
        "to_refuse": {group: len(chosen) for group, chosen in sorted(groups.items())},
        "refused": {
            group: refused_share(journal, label, chosen, known)
            for group, chosen in sorted(groups.items())
        },
    }
    if control is not None:
        report["questions_refused_shuffled_audio"] = refused_share(journal, control, asked, known)
    return report
