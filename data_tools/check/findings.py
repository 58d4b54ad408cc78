"""What `check` looks for: rules by name, and how much of each a data set may hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "limit", "note"]


@dataclass(frozen=True)
class Rule:
    """level: an error is tolerated nowhere, a limit in a few records, a note anywhere."""

    level: Level
    meaning: str


RULES = {
    "no answer": Rule("error", "a dialogue ends without the assistant's words"),
    "no text": Rule("error", "a turn is empty"),
    "no recording": Rule("error", "a turn has no speech, while others of its role have"),
    "missing file": Rule("error", "the recording isn't where the manifest says"),
    "unreadable": Rule("error", "the recording can't be decoded"),
    "no units": Rule("error", "an answer has no units, while others have"),
    "foreign units": Rule("error", "more units than the recording has frames: of another one"),
    "leakage": Rule("error", "a question or recording of training stands in another split"),
    "empty": Rule("limit", "a recording lasts no time"),
    "silent": Rule("limit", "a recording holds hardly anything but silence"),
    "clipped": Rule("limit", "loud parts are cut at full scale"),
    "too fast": Rule("limit", "too little sound for the text: words are missing"),
    "too slow": Rule("limit", "too much sound for the text: something else is heard"),
    "too long": Rule("limit", "a question lasts longer than the speech encoder hears"),
    "unspeakable": Rule("limit", "the text holds what no voice says: addresses, markup, symbols"),
    "language": Rule("limit", "the text is of another language than the record says"),
    "unit rate": Rule("limit", "units per second that no speech has"),
    "infeasible": Rule("limit", "CTC has no path: too many units for the text and upsample"),
    "duplicate": Rule("note", "the same dialogue in the same voice twice in one split"),
    "pace": Rule("note", "letters per second far from the voice's others"),
    "format": Rule("note", "not 16 kHz mono: converted at every reading"),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """turn: from 1; None for the whole record. badness: the worst are shown first."""

    rule: str
    record: str
    detail: str
    turn: int | None = None
    badness: float = 0.0
