"""A conversation that outgrows the language model's positions loses its beginning, by a rule."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from omni.processor import OmniProcessor
from omni.prompt import Message, PromptIds
from omni.session.memory import Heard
from omni.session.script import Room, write_script
from tests.talk import SHORT, Counted, answer, fresh_second_turn, processor, session
from tests.tiny import question

torch.set_num_threads(1)
POSITIONS = 512  # of the tiny model
LONG = "How warm is it today? " * 16


def asked(number: int) -> np.ndarray | str:
    """Questions by voice and in writing, by turns, each its own."""
    return f"{number} {LONG}" if number % 2 else question(3.0 + 0.1 * number, seed=number)


def length(history: list[Message], question: Message) -> int:
    return len(processor().prompt([*history, question]).ids)


def test_a_conversation_goes_on_beyond_the_positions_and_answers_from_what_is_left() -> None:
    talk = session()
    total = 0
    for number in range(20):
        expected = fresh_second_turn(talk, asked(number))
        _, done = answer(talk, asked(number))
        assert (done.token_ids, done.units) == (expected.token_ids, expected.units)
        total += length([], talk.history[-2])
    assert total > 2 * POSITIONS
    assert len(talk.history) < 24


def test_whole_pairs_go_from_the_front_and_only_as_many_as_the_rule_says() -> None:
    talk = session()
    room = Room(POSITIONS, SHORT.max_new_tokens)
    lost = 0
    for number in range(20):
        before = list(talk.history)
        answer(talk, asked(number))
        kept, newest = talk.history[:-2], talk.history[-2]
        assert kept == before[len(before) - len(kept) :]
        assert [message.role for message in kept] == ["user", "assistant"] * (len(kept) // 2)
        if room.holds(length(before, newest)):
            assert kept == before
            continue
        lost += 1
        assert length(kept, newest) <= POSITIONS // 2
        one_more = before[len(before) - len(kept) - 2 :]
        assert length(one_more, newest) > POSITIONS // 2
    assert lost > 1
    spoken = [message.positions for message in talk.history if message.positions is not None]
    assert spoken == [len(heard.labels) for heard in talk._heard]


def test_the_system_prompt_stays_and_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = session()
    for number in range(20):
        before = len(talk.history)
        counted = Counted(monkeypatch)
        answer(talk, asked(number))
        monkeypatch.undo()
        if len(talk.history) < before + 2:
            turn = length(talk.history[:-2], talk.history[-2])
            head = (
                processor()
                .prompt([Message(role="user", positions=1)])
                .ids.index(processor().audio_token_id)
            )
            assert counted.fed[0] == turn - head
            return
    pytest.fail("nothing was dropped")


@pytest.mark.parametrize("early", [True, False])
def test_what_is_dropped_is_not_heard_under_another_question(early: bool) -> None:
    """Recordings of one length have the same ids: the cache must know them apart."""
    talk = session()
    for number in range(30):
        voice = question(3.0, seed=number)
        expected = fresh_second_turn(talk, voice)
        if early:
            talk.push_audio(voice[:20_000])
            talk.push_audio(voice[20_000:])
            talk.speculate()
            done = list(talk.run())[-1]
        else:
            done = answer(talk, voice)[1]
        assert done.token_ids == expected.token_ids  # type: ignore[union-attr]


def test_a_refused_question_drops_nothing() -> None:
    talk = session()
    while len(talk.history) < 6:
        answer(talk, asked(len(talk.history)))
    history = list(talk.history)
    with pytest.raises(ValueError, match=r"question: .* the language model has 512; ask"):
        talk.ask("word " * 600)
    assert talk.history == history


def test_an_answer_without_bound_may_take_a_quarter_and_no_conversation() -> None:
    talk = session(replace(SHORT, max_new_tokens=400, speak=False))
    answer(talk, "Tell me")
    assert len(talk.history) == 2
    assert Room(POSITIONS, 400).holds(384) and not Room(POSITIONS, 400).holds(385)
    assert Room(POSITIONS, 10).holds(502) and not Room(POSITIONS, 10).holds(503)


def conversation(seed: int, turns: int) -> list[Message]:
    """Questions in writing and by voice, and answers, of many lengths."""
    draw = random.Random(seed)
    messages: list[Message] = []
    for _ in range(turns):
        words = Message(role="user", text="how warm " * draw.randint(1, 12))
        voice = Message(role="user", positions=draw.randint(1, 40))
        answer = Message(role="assistant", text="word " * draw.randint(0, 20))
        messages += [draw.choice((words, voice)), answer]
    return messages


def heard_of(messages: list[Message]) -> list[Heard]:
    lengths = [message.positions for message in messages if message.positions is not None]
    return [Heard(torch.zeros(n, 4), ((place, 0, 0),) * n) for place, n in enumerate(lengths)]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_dropped_is_what_dropping_turn_by_turn_would_find(seed: int) -> None:
    history = conversation(seed, turns=3 * seed)
    question, room = Message(role="user", text="word " * 13 * (seed % 8)), Room(POSITIONS, 60)
    dropped = 0
    if not room.holds(length(history, question)):
        while dropped < len(history) and length(history[dropped:], question) > POSITIONS // 2:
            dropped += 2
    script = write_script(processor(), history, heard_of(history), question, room)
    assert script.dropped == dropped
    assert list(script.ids) == processor().prompt([*history[dropped:], question]).ids
    assert len(script.labels) == len(script.ids)


def test_a_question_costs_no_more_work_after_ten_thousand_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []
    original = OmniProcessor.prompt

    def counted(self: OmniProcessor, messages: list[Message]) -> PromptIds:
        tried.append(len(messages))
        return original(self, messages)

    monkeypatch.setattr(OmniProcessor, "prompt", counted)
    history, question = conversation(0, turns=10_000), Message(role="user", text="how warm")
    script = write_script(processor(), history, heard_of(history), question, Room(POSITIONS, 60))
    kept = len(history) - script.dropped
    assert kept > 4
    assert sum(tried) < 20 * kept
