"""From a conversation to token ids: chat template, speech slots and the response mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

SPEECH = "<speech>"  # stands in the text where speech positions are spliced in
IGNORE = -100  # label of positions that no loss looks at

LLAMA_OMNI_LINE = f"{SPEECH}\nPlease directly answer the questions in the user's speech."


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """How a conversation is put to the LLM.

    speech_line: the user turn of a spoken question; must hold `<speech>` exactly once.
    system: system message, "" for none.
    extra_bos: the tokenizer's BOS comes before the template's own, as published LLaMA-Omni
        weights have always seen it.
    """

    speech_line: str = LLAMA_OMNI_LINE
    system: str = ""
    extra_bos: bool = False

    def __post_init__(self) -> None:
        if self.speech_line.count(SPEECH) != 1:
            raise ValueError(
                f"speech_line={self.speech_line!r}: must hold {SPEECH} exactly once; "
                "that is where the audio goes"
            )


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn. A spoken user turn has `positions`, the number of LLM positions of its audio."""

    role: Literal["user", "assistant"]
    text: str = ""
    positions: int | None = None


@dataclass(frozen=True)
class PromptIds:
    """ids: all token ids, each speech slot repeated once per position; response_start: the first
    id that the model has to say itself (len(ids) for a prompt that waits for an answer)."""

    ids: list[int]
    response_start: int

    @property
    def labels(self) -> list[int]:
        """ids where the response stands, -100 before it: the loss sees the response alone."""
        return [IGNORE] * self.response_start + self.ids[self.response_start :]


def add_speech_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of `<speech>`, added to the tokenizer if need be.

    It is a placeholder and never embedded, so the LLM's embedding table keeps its size.
    """
    tokenizer.add_special_tokens({"additional_special_tokens": [SPEECH]}, False)
    return int(tokenizer.convert_tokens_to_ids(SPEECH))


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], config: PromptConfig
) -> PromptIds:
    """Render a conversation by the tokenizer's chat template.

    messages: roles alternate from "user". If the last one is the assistant's, it is the response
    to learn; if it is the user's, the ids end where the assistant begins to speak.
    Raises ValueError for an empty conversation, wrong order, or text that holds `<speech>`.
    """
    _check(messages)
    chat = [{"role": "system", "content": config.system}] if config.system else []
    chat += [{"role": message.role, "content": _content(message, config)} for message in messages]
    answered = messages[-1].role == "assistant"
    prompt_chat = chat[:-1] if answered else chat
    prompt = _tokenize(tokenizer, prompt_chat, generation=True, extra_bos=config.extra_bos)
    ids, start = prompt, len(prompt)
    if answered:
        ids = _tokenize(tokenizer, chat, generation=False, extra_bos=config.extra_bos)
        if ids[:start] != prompt:
            raise ValueError(
                "chat template: the prompt is no prefix of prompt + response, so the response "
                "cannot be masked; use a template that only appends"
            )
        ids = ids[: _end_of_response(ids, start, tokenizer)]
    slot = int(tokenizer.convert_tokens_to_ids(SPEECH))
    lengths = [message.positions for message in messages if message.positions is not None]
    return _expand(ids, start, slot, lengths)


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise ValueError("conversation: no messages; give at least one question")
    for place, message in enumerate(messages):
        expected = ("user", "assistant")[place % 2]
        if message.role != expected:
            raise ValueError(
                f"message {place}: role {message.role!r}, expected {expected!r}; turns alternate"
            )
        if SPEECH in message.text:
            raise ValueError(f"message {place}: text holds {SPEECH}, which stands for audio only")
        if message.positions is not None and message.positions < 1:
            raise ValueError(
                f"message {place}: {message.positions} speech positions; the audio is too short, "
                "record at least 0.1 s"
            )


def _content(message: Message, config: PromptConfig) -> str:
    return config.speech_line if message.positions is not None else message.text


def _tokenize(
    tokenizer: PreTrainedTokenizerBase, chat: list[dict], *, generation: bool, extra_bos: bool
) -> list[int]:
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generation)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [tokenizer.bos_token_id, *ids] if extra_bos else list(ids)


def _end_of_response(ids: list[int], start: int, tokenizer: PreTrainedTokenizerBase) -> int:
    """One past the end token: some templates add a newline that the model never has to say."""
    for place in range(start, len(ids)):
        if ids[place] in tokenizer.all_special_ids:
            return place + 1
    return len(ids)


def _expand(ids: list[int], start: int, slot: int, lengths: list[int]) -> PromptIds:
    expanded: list[int] = []
    remaining = iter(lengths)
    for place, token in enumerate(ids):
        if place == start:
            response_start = len(expanded)
        expanded += [slot] * next(remaining) if token == slot else [token]
    if start == len(ids):
        response_start = len(expanded)
    return PromptIds(expanded, response_start)
