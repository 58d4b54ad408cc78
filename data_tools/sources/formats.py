"""What the rows of foreign data sets mean: one function per format, row -> record.

A format is known by its fields. `FORMATS` lists them, the more telling ones first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.manifest import Record, RecordTurn, laid_out, loaded, record_from_row

SPEAKERS = {
    "user": "user", "human": "user", "prompter": "user", "question": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "bing": "assistant", "bard": "assistant", "answer": "assistant",
}  # fmt: skip
SLOT = "<speech>"  # where the authors' prompts hold the question
QUESTION_COLUMNS = ("question", "prompt", "instruction", "query", "input")
ANSWER_COLUMNS = ("answer", "response", "output", "completion", "chosen")
AUDIO_COLUMNS = ("audio", "file", "file_name", "path")
TRANSCRIPT_COLUMNS = ("text", "sentence", "transcription", "transcript", "normalized_text")


@dataclass(frozen=True, kw_only=True)
class Place:
    """root: where the rows' relative audio paths start. audio_folder: where audio that comes as
    bytes is laid out."""

    root: Path
    audio_folder: Path


@dataclass(frozen=True, kw_only=True)
class Format:
    """fields: that a row has. read: raises ValueError with rule and remedy for a bad row; audio
    paths start from the place's root."""

    fields: tuple[str, ...]
    read: Callable[[dict[str, Any], Place], Record]


def record_row(row: dict[str, Any], place: Place) -> Record:
    """Our own manifest, from the hub or another folder."""
    return record_from_row(loaded(row, place.audio_folder, place.root))


def authors_dialogue(row: dict[str, Any], place: Place) -> Record:
    """Multi-turn set of LLaMA-Omni's authors: {"id", "conversation": [{"from", "text", "speech",
    "units"}]}; units are a list, or text of numbers."""
    turns = []
    for item in messages_of(row, "conversation"):
        turn: dict[str, Any] = {"role": role_of(item, "from"), "text": text_of(item, "text")}
        if item.get("speech"):
            turn["speech"] = audio_path(item["speech"])
        if item.get("units") is not None:
            turn["units"] = units_of(item["units"])
        turns.append(turn)
    # Through the manifest's own door, which merges repeated units.
    return record_from_row({"id": id_of(row, "omni", turns), "turns": turns})


def authors_question(row: dict[str, Any], place: Place) -> Record:
    """Inference set of LLaMA-Omni's authors: {"id", "speech", "conversations": [{"from",
    "value"}]}; "<speech>" stands for a question whose words are not given."""
    speech = audio_path(row["speech"])
    turns = []
    for item in messages_of(row, "conversations"):
        role, text = role_of(item, "from"), text_of(item, "value")
        if SLOT in text:
            turns.append(RecordTurn(role=role, text="", speech=speech))
        else:
            turns.append(RecordTurn(role=role, text=text))
    if not turns or turns[0].speech is None:
        raise ValueError(
            f"the first turn has no {SLOT}: it stands where the recording goes; add it"
        )
    return record(row, "omni", turns)


def sharegpt(row: dict[str, Any], place: Place) -> Record:
    """{"conversations": [{"from", "value"}, ...]}, or with the keys of OpenAI's messages."""
    items = messages_of(row, "conversations")
    if items and "role" in items[0]:
        return chat(row, items, "role", "content" if "content" in items[0] else "value")
    return chat(row, items, "from", "value")


def messages(row: dict[str, Any], place: Place) -> Record:
    """{"messages": [{"role", "content"}, ...]}."""
    return chat(row, messages_of(row, "messages"), "role", "content")


def ultrachat(row: dict[str, Any], place: Place) -> Record:
    """{"id", "data": [question, answer, question, ...]}."""
    texts = row["data"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"data {texts!r:.80}: must be a list of texts, the user's first; mend it")
    return record(row, "ultrachat", alternating(texts))


def alpaca(row: dict[str, Any], place: Place) -> Record:
    """{"instruction", "input", "output"}; the input belongs to what is asked."""
    question = text_of(row, "instruction").strip()
    if added := text_of(row, "input").strip() if row.get("input") else "":
        question += f"\n\n{added}"
    return record(row, "alpaca", alternating([question, text_of(row, "output")]))


def pairs(row: dict[str, Any], place: Place) -> Record:
    """A question and an answer, in columns of the usual names."""
    question, answer = first_of(row, QUESTION_COLUMNS), first_of(row, ANSWER_COLUMNS)
    return record(row, "pair", alternating([text_of(row, question), text_of(row, answer)]))


def recording(row: dict[str, Any], place: Place) -> Record:
    """A row of a speech recognition set: a question that was spoken, without an answer."""
    text = text_of(row, first_of(row, TRANSCRIPT_COLUMNS))
    audio = row[first_of(row, AUDIO_COLUMNS)]
    if isinstance(audio, dict):
        speech = laid_out(audio, place.audio_folder, place.root)
    else:
        speech = audio_path(audio)
    return record(row, "recording", [RecordTurn(role="user", text=text, speech=speech)])


FORMATS: dict[str, Format] = {
    "record": Format(fields=("id", "turns"), read=record_row),
    "omni-dialogue": Format(fields=("conversation",), read=authors_dialogue),
    "omni-question": Format(fields=("speech", "conversations"), read=authors_question),
    "sharegpt": Format(fields=("conversations",), read=sharegpt),
    "messages": Format(fields=("messages",), read=messages),
    "ultrachat": Format(fields=("data",), read=ultrachat),
    "alpaca": Format(fields=("instruction", "output"), read=alpaca),
    "recording": Format(fields=("audio",), read=recording),
    "transcript": Format(fields=(), read=recording),
    "pairs": Format(fields=(), read=pairs),
}
OF_COLUMNS = {  # formats that are known by one of these columns and one of those
    "transcript": (AUDIO_COLUMNS, TRANSCRIPT_COLUMNS),
    "pairs": (QUESTION_COLUMNS, ANSWER_COLUMNS),
}


def format_of(row: Any) -> str:
    """The first format whose fields the row has. Raises ValueError if it fits none."""
    if isinstance(row, dict):
        for name, known in FORMATS.items():
            if known.fields and all(row.get(key) is not None for key in known.fields):
                return name
        for name, (ones, others) in OF_COLUMNS.items():
            if any(c in row for c in ones) and any(c in row for c in others):
                return name
    found = sorted(row) if isinstance(row, dict) else type(row).__name__
    known_fields = "; ".join(" + ".join(f.fields) for f in FORMATS.values() if f.fields)
    raise ValueError(
        f"fields {found}: fit no format; a row needs {known_fields}; or one of "
        + "; or one of ".join(
            f"{', '.join(ones)} and one of {', '.join(others)}"
            for ones, others in OF_COLUMNS.values()
        )
    )


def chat(row: dict[str, Any], items: Sequence[dict[str, Any]], role: str, text: str) -> Record:
    """Messages without the system's, whose rules for a written chat don't fit a spoken one."""
    turns = [
        RecordTurn(role=role_of(item, role), text=text_of(item, text))
        for item in items
        if str(item.get(role)).lower() != "system"
    ]
    return record(row, "chat", turns)


def alternating(texts: Sequence[str]) -> list[RecordTurn]:
    """Texts as turns: the user begins."""
    return [
        RecordTurn(role="assistant" if number % 2 else "user", text=text)
        for number, text in enumerate(texts)
    ]


def record(row: dict[str, Any], kind: str, turns: Sequence[RecordTurn]) -> Record:
    """Checked as a manifest's line is. An empty last answer is none: `respond` writes it."""
    if len(turns) > 1 and turns[-1].role == "assistant" and not turns[-1].text.strip():
        turns = turns[:-1]
    for number, turn in enumerate(turns, start=1):
        if not turn.text.strip() and turn.speech is None:
            raise ValueError(f"turn {number} is empty: every turn needs text; add or remove it")
    fields = [
        {"role": turn.role, "text": turn.text.strip(), "speech": turn.speech} for turn in turns
    ]
    return record_from_row({"id": id_of(row, kind, fields), "turns": fields})


def id_of(row: dict[str, Any], kind: str, turns: Sequence[dict[str, Any]]) -> str:
    """The row's own id, or one made of its content: never its number, which a filter changes."""
    for name in ("id", "prompt_id", "conversation_id"):
        if row.get(name) not in (None, ""):
            return str(row[name])
    content = json.dumps(list(turns), sort_keys=True, ensure_ascii=False)
    return f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def messages_of(row: dict[str, Any], field: str) -> list[dict[str, Any]]:
    """The list of objects in that field. Raises ValueError if it is anything else."""
    items = row[field]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"{field} {items!r:.80}: must be a list of objects; mend it")
    return items


def role_of(item: dict[str, Any], field: str) -> Any:
    """user or assistant, by the names in use for them. Raises ValueError for another."""
    name = str(item.get(field)).lower()
    if name not in SPEAKERS:
        raise ValueError(
            f"{field} {item.get(field)!r}: must be one of {', '.join(SPEAKERS)}; rename"
        )
    return SPEAKERS[name]


def text_of(item: dict[str, Any], field: str) -> str:
    """Text, or the text parts of a message in OpenAI's list form."""
    value = item.get(field)
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        others = {str(part.get("type")) for part in value} - {"text"}
        if others:
            raise ValueError(f"{field} holds {', '.join(sorted(others))}: only text can be read")
        value = "\n".join(str(part.get("text", "")) for part in value)
    if not isinstance(value, str):
        raise ValueError(f"{field} {value!r:.80}: must be text; put it in quotation marks")
    return value


def units_of(units: Any) -> list[int]:
    """Units from "3 14 15" or a list of numbers. Raises ValueError for other text."""
    if not isinstance(units, str):
        return units
    try:
        return [int(unit) for unit in units.split()]
    except ValueError:
        raise ValueError(
            f"units {units!r:.80}: must be numbers with spaces; extract anew"
        ) from None


def audio_path(value: Any) -> str:
    """The path as text. Raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"speech {value!r:.80}: must be the path of a recording; put it as text")
    return value


def first_of(row: dict[str, Any], columns: Sequence[str]) -> str:
    """The first column that the row has. Raises ValueError if there is none."""
    for column in columns:
        if row.get(column) is not None:
            return column
    raise ValueError(f"has none of the fields {', '.join(columns)}; rename one of its own")
