"""Chats with text and audio in one turn, as transformers' processors take them.

Conversations whose content has parts, and prompts with the recordings that fill them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from transformers import PreTrainedTokenizerBase

from omni.prompt import SPEECH, PromptConfig, check_said, control_tokens

# Where a part of type "audio" may say what is heard; as in Qwen2-Audio's and Voxtral's examples.
SOURCES = ("audio", "path", "url", "audio_url", "base64")


@dataclass(frozen=True)
class Chat:
    """A conversation in the words of a text chat template, and what is heard in it, in order.

    messages: roles and strings, where `<speech>` stands for each recording.
    audio: recordings as arrays, paths, web addresses or bytes; fewer where parts name no source.
    """

    messages: list[dict[str, Any]]
    audio: list[Any]


def read_chat(
    conversation: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    config: PromptConfig,
) -> Chat:
    """Put parts into text, and the checkpoint's system message first where there is none.

    A user turn of audio alone is what a spoken question is to this checkpoint. Beside text, the
    audio stands where it was put, on a line of its own as in LLaMA-Omni's own prompt.
    Raises ValueError for text that holds a control token, for audio in another's turn than the
    user's, and for parts that are neither text nor audio.
    """
    if not conversation:
        raise ValueError("conversation: no messages; give at least one question")
    control = control_tokens(tokenizer)
    messages, audio = [], []
    for place, message in enumerate(conversation):
        parts = _parts(message, place)
        for part in parts:
            if part["type"] == "text":
                check_said(part["text"], place, control)
                continue
            if message["role"] != "user":
                raise ValueError(
                    f"message {place}: audio in a turn of {message['role']!r}; only users are "
                    "heard, give other turns as text"
                )
            source = next((key for key in SOURCES if part.get(key) is not None), None)
            if source is not None:
                given = part[source]
                audio.append(base64.b64decode(given) if source == "base64" else given)
        messages.append({**message, "content": _content(parts, config)})
    if config.system and not (messages and messages[0]["role"] == "system"):
        messages.insert(0, {"role": "system", "content": config.system})
    return Chat(messages, audio)


def _parts(message: Mapping[str, Any], place: int) -> list[Mapping[str, Any]]:
    content = message.get("content") or ""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    for part in content:
        kind = part.get("type")
        if kind not in ("text", "audio"):
            raise ValueError(
                f"message {place}: a part of type {kind!r}; this model takes 'text' and 'audio'"
            )
    return list(content)


def _content(parts: Sequence[Mapping[str, Any]], config: PromptConfig) -> str:
    slots = sum(part["type"] == "audio" for part in parts)
    if slots == len(parts) > 0:
        return config.speech_line.replace(SPEECH, SPEECH * slots)
    whole, after_slot = "", False
    for part in parts:
        slot = part["type"] == "audio"
        piece = SPEECH if slot else part["text"]
        spaced = not (whole and piece) or whole[-1].isspace() or piece[0].isspace()
        whole += piece if spaced or slot == after_slot else f"\n{piece}"
        after_slot = slot
    return whole


def rows_of(text: Any, audio: Any) -> list[tuple[str | None, list[Any]]]:
    """A processor's `text` and `audio` -> the text of each row and the recordings for it.

    Recordings come in the order of their placeholders, or with an entry per row: one of them, a
    list of them, or None. A row without text is a spoken question, and asks for one.
    Raises ValueError where placeholders and recordings are not equally many.
    """
    texts = [text] if isinstance(text, str) else list(text or [])
    given = _listed(audio)
    if not texts and not given:
        raise ValueError("no question: give text or audio")
    if not texts or any(entry is None or isinstance(entry, (list, tuple)) for entry in given):
        heard = [_listed(entry) for entry in given]
        texts += [None] * (len(heard) - len(texts))
        heard += [[] for _ in texts[len(heard) :]]
    else:
        slots = [_slots(words) for words in texts]
        _check_slots("text", sum(slots), len(given))
        rest = iter(given)
        heard = [list(islice(rest, count)) for count in slots]
    for row, (words, recordings) in enumerate(zip(texts, heard, strict=True)):
        _check_slots(f"row {row}", _slots(words), len(recordings))
    return list(zip(texts, heard, strict=True))


def _listed(audio: Any) -> list[Any]:
    if audio is None:
        return []
    return list(audio) if isinstance(audio, (list, tuple)) else [audio]


def _slots(words: str | None) -> int:
    return 1 if words is None else words.count(SPEECH)


def _check_slots(where: str, slots: int, recordings: int) -> None:
    if slots != recordings:
        raise ValueError(
            f"{where}: {slots} {SPEECH} for {recordings} recordings; put one {SPEECH} into the "
            "prompt for each, or let apply_chat_template do so"
        )
