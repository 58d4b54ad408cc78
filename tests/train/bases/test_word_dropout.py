"""A small LLM reads questions with some words left out, and is measured on whole ones."""

import numpy as np
import pytest

from data_tools.manifest.record import Record, RecordTurn
from omni.prompt import IGNORE, Message
from tests.tiny import tiny_tokenizer
from train.bases.lm import NANO_PROMPT, TextDialogues
from train.data.left_out import thinned
from train.loop.order import Item

QUESTION, ANSWER = "Tell me the capital of France.", "The capital of France is Paris."


def dialogues(share: float) -> TextDialogues:
    turns = tuple(
        RecordTurn(role=role, text=text)
        for role, text in (("user", QUESTION), ("assistant", ANSWER)) * 2
    )
    records = [Record(id="a", turns=turns, split="train")]
    return TextDialogues(records, tiny_tokenizer(), NANO_PROMPT, word_dropout=share, seed=3)


def labels(example: dict[str, list[int]]) -> list[int]:
    return [label for label in example["labels"] if label != IGNORE]


def test_each_epoch_leaves_out_other_words_of_what_the_user_says() -> None:
    whole, thin = dialogues(0.0), dialogues(0.4)
    shown = [thin[Item(epoch, 1)] for epoch in range(6)]
    assert len({tuple(example["input_ids"]) for example in shown}) > 3
    assert min(len(example["input_ids"]) for example in shown) < len(whole[1]["input_ids"])
    assert thin[Item(2, 1)] == shown[2]
    text = tiny_tokenizer().decode(shown[0]["input_ids"])
    assert text.count(ANSWER) == 2  # of the dialogue so far, and the one to be learnt


def test_the_answer_and_validation_are_whole() -> None:
    whole, thin = dialogues(0.0), dialogues(0.9)
    assert all(labels(thin[Item(epoch, 0)]) == labels(whole[0]) for epoch in range(4))
    assert thin[0] == whole[0] == whole[Item(0, 0)]
    assert thin.lengths == whole.lengths


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_the_share_is_that_of_the_words(share: float) -> None:
    rng = np.random.default_rng(1)
    said = [Message(role="user", text="a b c d e f g h i j")] * 400
    kept = [len(message.text.split()) for message in thinned(said, share, rng)]
    assert np.mean(kept) == pytest.approx(10 * (1 - share), abs=0.3)


def test_one_word_always_stays_and_answers_and_recordings_are_left_alone() -> None:
    rng = np.random.default_rng(1)
    two = [Message(role="user", text="yes no")] * 20
    assert {message.text for message in thinned(two, 1.0, rng)} == {"yes", "no"}
    others = [
        Message(role="user", positions=3),
        Message(role="user", text=""),
        Message(role="assistant", text="It is so."),
    ]
    assert thinned(others, 1.0, rng) == others
