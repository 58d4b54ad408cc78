"""What was said goes into later turns as it was said, and nothing is computed twice."""

from dataclasses import replace

import pytest
import torch

from omni.session import SpeechSession
from tests.talk import (
    FIRST,
    SECOND,
    SHORT,
    Counted,
    answer,
    fresh_second_turn,
    processor,
    session,
    step,
)
from tests.tiny import question, tiny_model
from train.bases.lm import ASSISTANT, END

torch.set_num_threads(1)


def spelled(text: str) -> list[int]:
    """A text in the tokens of its characters, as no tokenizer would spell it."""
    encode = processor().tokenizer.encode
    return [token for letter in text for token in encode(letter, add_special_tokens=False)]


def say(monkeypatch: pytest.MonkeyPatch, tokens: list[int]) -> None:
    script = iter(tokens)
    monkeypatch.setattr("omni.session.reply.choose", lambda *_: next(script))


def fed(talk: SpeechSession, asked: str) -> list[int]:
    talk.push_text(asked)
    return list(talk.begin().prompt_ids)


@pytest.mark.parametrize("token", [END, ASSISTANT, "<speech>"])
def test_an_answer_may_spell_a_control_token_and_stays_words(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, plain = session(replace(SHORT, max_new_tokens=60)), session()
    tokenizer = processor().tokenizer
    said = spelled(f"so {token} it")
    with monkeypatch.context() as patch:
        say(patch, [*said, tokenizer.eos_token_id])
        _, done = answer(talk, FIRST)
    assert done.text == talk.history[1].text == f"so {token} it"
    answer(plain, FIRST)
    prompt = fed(talk, SECOND)
    control = tokenizer.convert_tokens_to_ids(token)
    assert prompt.count(control) == fed(plain, SECOND).count(control)
    assert any(prompt[at : at + len(said)] == said for at in range(len(prompt)))


def test_a_control_token_that_was_said_is_not_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = session()
    tokenizer = processor().tokenizer
    header = int(tokenizer.convert_tokens_to_ids(ASSISTANT))
    words = spelled("so it")
    say(monkeypatch, [words[0], header, *words[1:], tokenizer.eos_token_id])
    answer(talk, FIRST)
    assert talk.history[1].ids == tuple(words)
    assert fed(talk, SECOND).count(header) == 2  # of the two answers


def test_an_answer_that_is_spelled_unusually_is_not_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = session()
    words = spelled("it is")
    end = processor().tokenizer.eos_token_id
    say(monkeypatch, [*words, end, end])  # the second is of the second turn
    answer(talk, FIRST)
    cached = len(talk._prefill.memory.labels)
    counted = Counted(monkeypatch)
    talk.push_text(SECOND)
    turn = talk.begin()
    step(turn)
    assert counted.fed == [len(turn.prompt_ids) - cached]


def test_a_cancel_before_the_first_event_keeps_what_earlier_turns_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = session()
    with monkeypatch.context() as patch:
        say(patch, [*spelled("it is"), processor().tokenizer.eos_token_id])
        answer(talk, FIRST)
    cached = len(talk._prefill.memory.labels)
    talk.ask(FIRST).close()
    counted = Counted(monkeypatch)
    talk.push_audio(question())
    turn = talk.begin()
    step(turn)
    assert sum(counted.fed) == len(turn.prompt_ids) - cached


@pytest.mark.parametrize("cancel_after", [None, 0, 2])
def test_a_later_turn_is_what_it_would_be_without_the_cache(cancel_after: int | None) -> None:
    talk = session()
    for turn, asked in enumerate([question(0.7), "How warm is it?", question(1.1, seed=2)]):
        expected = fresh_second_turn(talk, asked)
        _, done = answer(talk, asked)
        assert (done.token_ids, done.units) == (expected.token_ids, expected.units)
        if turn == 0 and cancel_after is not None:
            stopping = talk.ask("Well")
            if cancel_after == 0:
                talk.cancel()
            for place, _ in enumerate(stopping, 1):
                if place == cancel_after:
                    talk.cancel()
    assert len(talk.history) == (6 if cancel_after is None else 8)


def test_each_position_is_fed_once_within_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = tiny_model()  # of which nothing is known yet
    counted = Counted(monkeypatch, fresh)
    answer(SpeechSession(fresh, processor(), SHORT), question())
    prompt = processor()(audio=question())["input_ids"].shape[1]
    assert counted.fed == [prompt] + [1] * 9


def test_a_second_turn_feeds_only_what_the_cache_does_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Answers whose text is spelled by the same tokens again, as those of a trained model are.
    words = processor().tokenizer.encode("It is quite warm today", add_special_tokens=False)
    script = iter([*words, processor().tokenizer.eos_token_id] * 2)
    monkeypatch.setattr("omni.session.reply.choose", lambda *_: next(script))
    talk = session()
    first = processor()(audio=question())["input_ids"].shape[1]
    answer(talk, question())
    counted = Counted(monkeypatch)
    answer(talk, "Tell me")
    whole = len(talk._prefill.memory.labels) - len(words)
    # All but the first turn's prompt and the words that were fed: end token, question, header.
    assert counted.fed == [whole - first - len(words)] + [1] * len(words)
