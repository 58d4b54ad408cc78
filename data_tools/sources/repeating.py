"""Recordings to be said back: what a model repeats is what it understood."""

from __future__ import annotations

from dataclasses import replace

from data_tools.manifest import WRITTEN_TURNS, Record, RecordTurn
from omni.files import UserError

ASK_TO_REPEAT = "Repeat what I say."  # in writing; then comes what has to be repeated
READY = "Go ahead."


def to_repeat(record: Record) -> Record:
    """The first question, after it was said in writing that it is to be repeated.

    Raises UserError if its words are not given.
    """
    asked = record.turns[0]
    if not asked.text.strip():
        raise UserError(f"{record.id}: no words to be said back; add its transcript")
    turns = (
        RecordTurn(role="user", text=ASK_TO_REPEAT),
        RecordTurn(role="assistant", text=READY),
        asked,
        RecordTurn(role="assistant", text=asked.text),
    )
    more = {"kind": "repeat", "skill": "repeat", WRITTEN_TURNS: "1"}
    return replace(record, turns=turns, provenance=record.provenance | more)
