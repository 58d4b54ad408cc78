"""Prompts are the template's, speech has its slots, and the loss sees the response alone."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from omni.prompt import (
    IGNORE,
    SPEECH,
    Message,
    PromptConfig,
    add_speech_token,
    control_token_in,
    control_tokens,
    encode_prompt,
    without_control_tokens,
)
from tests.paths import DATA
from tests.tiny import tiny_tokenizer
from train.bases.lm import ASSISTANT, BEGIN, END, USER, build_tokenizer

GOLDEN = DATA / "llama_omni"
PLAIN = PromptConfig(speech_line=SPEECH)
SYSTEM = (
    "You are a helpful language and speech assistant. You are able to understand the speech "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
LLAMA_3 = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim }}{{ '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)


def text(role: str, content: str) -> Message:
    return Message(role=role, text=content)  # type: ignore[arg-type]


def spoken(positions: int) -> Message:
    return Message(role="user", positions=positions)


def spell(ids: list[int]) -> str:
    return tiny_tokenizer().decode(ids)


def llama_3() -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(GOLDEN)
    tokenizer.chat_template = LLAMA_3
    add_speech_token(tokenizer)
    return tokenizer


@pytest.mark.parametrize("kind", ["speech", "text_only"])
def test_the_published_prompt_is_met_byte_for_byte(kind: str) -> None:
    golden = json.loads((GOLDEN / "golden.json").read_text())
    question = spoken(1)
    if kind == "text_only":
        golden = golden["text_only"]
        question = text("user", "What is the surface of the Earth covered by?")
    tokenizer = llama_3()
    slot = tokenizer.convert_tokens_to_ids(SPEECH)
    config = PromptConfig(system=SYSTEM, extra_bos=True)
    ids = encode_prompt(tokenizer, [question], config).ids
    assert [-200 if token == slot else token for token in ids] == golden["prompt_ids"]
    assert tokenizer.decode(ids[1:]) == golden["prompt"]


def test_the_end_token_of_a_llama_is_among_its_labels_and_nothing_after_it() -> None:
    tokenizer = llama_3()
    messages = [spoken(3), text("assistant", "Water.")]
    prompt = encode_prompt(tokenizer, messages, PromptConfig(system=SYSTEM))
    labels = [label for label in prompt.labels if label != IGNORE]
    assert tokenizer.decode(labels) == "Water.<|eot_id|>"
    assert prompt.labels[-1] == prompt.ids[-1] == tokenizer.convert_tokens_to_ids("<|eot_id|>")


def test_each_slot_is_repeated_once_per_speech_position() -> None:
    slot = tiny_tokenizer().convert_tokens_to_ids(SPEECH)
    messages = [spoken(3), text("assistant", "Four."), spoken(2)]
    ids = encode_prompt(tiny_tokenizer(), messages, PLAIN).ids
    middle = f"Four.{END}{USER}"
    assert spell(ids) == f"{BEGIN}{USER}{SPEECH * 3}{ASSISTANT}{middle}{SPEECH * 2}{ASSISTANT}"
    assert ids.count(slot) == 5


def test_a_prompt_that_waits_for_an_answer_has_no_labels() -> None:
    prompt = encode_prompt(tiny_tokenizer(), [spoken(4)], PLAIN)
    assert prompt.response_start == len(prompt.ids)
    assert set(prompt.labels) == {IGNORE}


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12).filter(
    lambda drawn: control_token_in(drawn, tiny_tokenizer()) is None
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.one_of(words, st.integers(1, 4)), words), max_size=2))
def test_the_mask_leaves_the_last_response_and_its_end_alone(
    exchanges: list[tuple[str | int, str]],
) -> None:
    messages: list[Message] = []
    for question, answer in [("Hi", "Well."), *exchanges]:
        spoken_turn = isinstance(question, int)
        messages.append(spoken(question) if spoken_turn else text("user", question))
        messages.append(text("assistant", answer))
    prompt = encode_prompt(tiny_tokenizer(), messages, PLAIN)
    learned = [label for label in prompt.labels if label != IGNORE]
    expected = tiny_tokenizer().encode(messages[-1].text, add_special_tokens=False)
    assert learned == [*expected, tiny_tokenizer().eos_token_id]
    assert prompt.labels[prompt.response_start :] == learned
    waiting = encode_prompt(tiny_tokenizer(), messages[:-1], PLAIN)
    assert waiting.ids == prompt.ids[: prompt.response_start]


def test_extra_bos_comes_once_before_everything() -> None:
    plain = encode_prompt(tiny_tokenizer(), [text("user", "Hi")], PLAIN)
    twice = encode_prompt(
        tiny_tokenizer(), [text("user", "Hi")], PromptConfig(speech_line=SPEECH, extra_bos=True)
    )
    assert twice.ids == [tiny_tokenizer().bos_token_id, *plain.ids]


@pytest.mark.parametrize("token", [SPEECH, END, ASSISTANT])
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_text_that_holds_a_control_token_is_refused(token: str, role: str) -> None:
    messages = [text("user", "Hi"), text("assistant", "Yes.")]
    messages[role == "assistant"] = text(role, f"say {token} now")
    with pytest.raises(ValueError, match=r"text holds"):
        encode_prompt(tiny_tokenizer(), messages, PLAIN)


def tokens_of(words: str) -> tuple[int, ...]:
    """Letter by letter, as the tokenizer would never spell them."""
    encode = tiny_tokenizer().encode
    return tuple(token for one in words for token in encode(one, add_special_tokens=False))


@pytest.mark.parametrize("said", ["Yes", f"say {END} now", "", SPEECH])
def test_what_the_model_said_is_repeated_token_by_token(said: str) -> None:
    ids = tokens_of(said)
    answer = Message(role="assistant", text=said, ids=ids)
    prompt = encode_prompt(tiny_tokenizer(), [spoken(2), answer, text("user", "Hi")], PLAIN).ids
    first = encode_prompt(tiny_tokenizer(), [spoken(2)], PLAIN).ids
    assert tuple(prompt[: len(first) + len(ids)]) == (*first, *ids)
    assert spell(prompt[len(first) + len(ids) :]) == f"{END}{USER}Hi{ASSISTANT}"


def test_a_response_given_by_its_tokens_is_learnt_with_its_end() -> None:
    ids = tokens_of("Yes")
    messages = [text("user", "Hi"), Message(role="assistant", text="Yes", ids=ids)]
    prompt = encode_prompt(tiny_tokenizer(), messages, PLAIN)
    learned = [label for label in prompt.labels if label != IGNORE]
    assert learned == [*ids, tiny_tokenizer().eos_token_id]


@pytest.mark.parametrize("token", [SPEECH, END, ASSISTANT])
def test_ids_that_hold_a_control_token_are_refused(token: str) -> None:
    ids = (*tokens_of("so"), int(tiny_tokenizer().convert_tokens_to_ids(token)))
    messages = [text("user", "Hi"), Message(role="assistant", ids=ids), text("user", "Hi")]
    with pytest.raises(ValueError, match="message 1: ids hold a control token"):
        encode_prompt(tiny_tokenizer(), messages, PLAIN)
    assert without_control_tokens(ids, control_tokens(tiny_tokenizer())) == ids[:-1]


def test_a_template_that_rewrites_the_prompt_is_refused() -> None:
    tokenizer = build_tokenizer(["Hi"], 300)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ messages | length }}{{ m['content'] }}{% endfor %}"
    )
    with pytest.raises(ValueError, match=r"only appends"):
        encode_prompt(tokenizer, [text("user", "Hi"), text("assistant", "Yes.")], PLAIN)


def test_a_template_that_drops_turns_is_refused_before_speech_is_misplaced() -> None:
    tokenizer = build_tokenizer(["Hi"], 300)
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    messages = [spoken(2), text("assistant", "Yes."), text("user", "Hi")]
    with pytest.raises(ValueError, match=r"0 speech slots for 1 spoken turns"):
        encode_prompt(tokenizer, messages, PLAIN)


@pytest.mark.parametrize("roles", [["assistant"], ["user", "user"], ["user", "assistant", "x"]])
def test_turns_must_alternate_from_the_user(roles: list[str]) -> None:
    with pytest.raises(ValueError, match=r"turns alternate"):
        encode_prompt(tiny_tokenizer(), [text(role, "a") for role in roles], PLAIN)


def test_an_empty_conversation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no messages"):
        encode_prompt(tiny_tokenizer(), [], PLAIN)


def test_a_spoken_turn_needs_a_position() -> None:
    with pytest.raises(ValueError, match=r"0 speech positions.*at least"):
        encode_prompt(tiny_tokenizer(), [spoken(0)], PLAIN)


@pytest.mark.parametrize("line", ["answer me", f"{SPEECH} {SPEECH}"])
def test_a_speech_line_holds_the_slot_once(line: str) -> None:
    with pytest.raises(ValueError, match=r"exactly once"):
        PromptConfig(speech_line=line)


def test_a_tokenizer_without_the_speech_token_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(GOLDEN)
    tokenizer.chat_template = LLAMA_3
    with pytest.raises(ValueError, match=r"has no token <speech>"):
        encode_prompt(tokenizer, [spoken(1)], PromptConfig())
