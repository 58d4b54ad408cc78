"""From a conversation to token ids: chat template, speech slots and the response mask."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
    """One turn.

    positions: of a spoken user turn, the number of LLM positions of its audio. ids: of a turn that
    the model said itself, its tokens; the prompt repeats these, whatever the text spells.
    """

    role: Literal["user", "assistant"]
    text: str = ""
    positions: int | None = None
    ids: tuple[int, ...] | None = None


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
    return _speech_id(tokenizer)


def special_id(tokenizer: PreTrainedTokenizerBase, name: Literal["bos", "eos", "pad"]) -> int:
    """The id of that special token. Raises ValueError if the tokenizer names none."""
    token = getattr(tokenizer, f"{name}_token_id")
    if not isinstance(token, int):
        raise ValueError(f"{name}_token: the tokenizer names none; set it there")
    return token


def _speech_id(tokenizer: PreTrainedTokenizerBase) -> int:
    found = tokenizer.convert_tokens_to_ids(SPEECH)
    if not isinstance(found, int) or found == tokenizer.unk_token_id:
        raise ValueError(f"tokenizer: has no token {SPEECH}; add it with add_speech_token")
    return found


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    config: PromptConfig,
    tools: Sequence[dict[str, Any]] = (),
) -> PromptIds:
    """Render a conversation by the tokenizer's chat template.

    tools: what the template is to tell of functions, as transformers' templates take them.

    messages: roles alternate from "user". If the last one is the assistant's, it is the response
    to learn; if it is the user's, the ids end where the assistant begins to speak.
    Raises ValueError for an empty conversation, wrong order, text or ids that hold `<speech>` or
    another control token, and a chat template that does not only append.
    """
    _check(messages, tokenizer)
    chat = [{"role": "system", "content": config.system}] if config.system else []
    chat += [{"role": message.role, "content": _content(message, config)} for message in messages]
    answered = messages[-1].role == "assistant"
    prompt_chat = chat[:-1] if answered else chat
    bos = config.extra_bos
    prompt = _tokenize(tokenizer, prompt_chat, generation=True, extra_bos=bos, tools=tools)
    ids, start = prompt, len(prompt)
    if answered:
        ids = _tokenize(tokenizer, chat, generation=False, extra_bos=bos, tools=tools)
        if ids[:start] != prompt:
            raise ValueError(
                "chat template: the prompt is no prefix of prompt + response, so the response "
                "cannot be masked; use a template that only appends"
            )
    slot = _speech_id(tokenizer)
    fillings = [_filling(message, slot) for message in messages if _fills_slot(message)]
    if ids.count(slot) != len(fillings):
        raise ValueError(
            f"chat template: {ids.count(slot)} speech slots for {len(fillings)} spoken turns; use "
            "a template that keeps every turn's text as it is"
        )
    expanded = _expand(ids, start, slot, fillings)
    end = _end_of_response(expanded.ids, expanded.response_start, tokenizer) if answered else None
    return PromptIds(expanded.ids[:end], expanded.response_start)


def encode_rendered(
    tokenizer: PreTrainedTokenizerBase, text: str, lengths: list[int], config: PromptConfig
) -> list[int]:
    """Ids of a prompt that a chat template has rendered already.

    lengths: LLM positions of the recordings that fill its `<speech>`, as many as these.
    """
    ids = _encode(tokenizer, text, config.extra_bos)
    slot = _speech_id(tokenizer)
    return _expand(ids, len(ids), slot, [[slot] * length for length in lengths]).ids


def control_token_in(text: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The first control token of this tokenizer that a text holds, `<speech>` among them."""
    return _first_in(text, control_tokens(tokenizer))


def without_control_tokens(ids: Iterable[int], control: Container[int]) -> tuple[int, ...]:
    """The tokens of a reply that can be repeated in a prompt: those that steer are left out.

    control: see `control_tokens`.
    """
    return tuple(token for token in ids if token not in control)


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Tokens that steer and are never said, by id: ends of turns, headers, the speech slot.

    A table with hundreds of entries is made anew by each call: make it once for many texts.
    """
    added = tokenizer.added_tokens_decoder.items()
    return {place: token.content for place, token in added if token.special}


def _first_in(text: str, control: Mapping[int, str]) -> str | None:
    return next((token for token in control.values() if token in text), None)


def _check(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> None:
    if not messages:
        raise ValueError("conversation: no messages; give at least one question")
    control = control_tokens(tokenizer)
    for place, message in enumerate(messages):
        expected = ("user", "assistant")[place % 2]
        if message.role != expected:
            raise ValueError(
                f"message {place}: role {message.role!r}, expected {expected!r}; turns alternate"
            )
        if message.ids is None:
            check_said(message.text, place, control)
        elif len(without_control_tokens(message.ids, control)) < len(message.ids):
            raise ValueError(
                f"message {place}: ids hold a control token of this tokenizer; leave it out, as "
                "without_control_tokens does"
            )
        if message.positions is not None and message.positions < 1:
            raise ValueError(
                f"message {place}: {message.positions} speech positions; the audio is too short, "
                "record at least 0.1 s"
            )


def check_said(text: str, place: int, control: Mapping[int, str]) -> None:
    """Raise ValueError if what was said in message number `place` would steer the model.

    control: see `control_tokens`.
    """
    if held := _first_in(text, control):
        raise ValueError(
            f"message {place}: text holds {held}, a control token of this tokenizer; remove it"
        )


def _content(message: Message, config: PromptConfig) -> str:
    if message.ids is not None:
        return SPEECH  # its place, which no text of a turn can hold
    return config.speech_line if message.positions is not None else message.text


def _fills_slot(message: Message) -> bool:
    return message.positions is not None or message.ids is not None


def _filling(message: Message, slot: int) -> list[int]:
    """What stands in the prompt where the template has this turn's slot."""
    return list(message.ids) if message.ids is not None else [slot] * (message.positions or 0)


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    chat: list[dict[str, str]],
    *,
    generation: bool,
    extra_bos: bool,
    tools: Sequence[dict[str, Any]],
) -> list[int]:
    text = tokenizer.apply_chat_template(
        chat, tools=list(tools) or None, tokenize=False, add_generation_prompt=generation
    )
    return _encode(tokenizer, str(text), extra_bos)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, extra_bos: bool) -> list[int]:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return [special_id(tokenizer, "bos"), *ids] if extra_bos else ids


def _end_of_response(ids: list[int], start: int, tokenizer: PreTrainedTokenizerBase) -> int:
    """One past the end token: some templates add a newline that the model never has to say."""
    control = control_tokens(tokenizer)
    ends = (place + 1 for place in range(start, len(ids)) if ids[place] in control)
    return next(ends, len(ids))


def _expand(ids: list[int], start: int, slot: int, fillings: Sequence[Sequence[int]]) -> PromptIds:
    """Put what belongs there in place of each slot."""
    remaining = iter(fillings)
    pieces = [next(remaining) if token == slot else [token] for token in ids]
    expanded = [token for piece in pieces for token in piece]
    return PromptIds(expanded, sum(len(piece) for piece in pieces[:start]))
