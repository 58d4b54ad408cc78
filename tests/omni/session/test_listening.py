"""What is done while the user speaks changes when the answer comes, and never what it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.audio import AudioError
from omni.session import SpeechSession
from omni.session.events import AudioDelta, Done, Event
from omni.vocoder.chunking import parse_schedule
from tests.talk import (
    BAD,
    SHORT,
    Counted,
    answer,
    fresh_second_turn,
    model,
    processor,
    push,
    session,
)
from tests.tiny import question, tiny_model

torch.set_num_threads(1)
# The adapter stacks 5 frames: blocks that are a stack, end inside one, and hold several.
BLOCKS = [5, 3, 12]
CHOPPED = replace(SHORT, schedule=parse_schedule("2"), right_context_frames=0)


def waveform(events: list[Event]) -> np.ndarray:
    return np.concatenate([one.waveform for one in events if isinstance(one, AudioDelta)])


def end(events: list[Event]) -> Done:
    done = events[-1]
    assert isinstance(done, Done)
    return done


@settings(max_examples=25, deadline=None)
@given(
    pieces=st.lists(st.integers(0, 9_000), max_size=8),
    block_frames=st.sampled_from(BLOCKS),
    seed=st.integers(0, 2),
)
def test_a_question_in_pieces_is_answered_as_the_whole_one(
    pieces: list[int], block_frames: int, seed: int
) -> None:
    asked = question(1.3, seed)
    whole, expected = answer(session(CHOPPED, block_frames), asked)
    talk = session(CHOPPED, block_frames)
    push(talk, asked, pieces)
    events = list(talk.run())
    done = end(events)
    assert (done.text, done.token_ids, done.units) == (
        expected.text, expected.token_ids, expected.units,
    )  # fmt: skip
    assert len(done.units) > 5
    np.testing.assert_allclose(waveform(events), waveform(whole), atol=1e-4)


@pytest.mark.parametrize("block_frames", BLOCKS)
def test_it_is_answered_as_generate_answers_it(block_frames: int) -> None:
    asked = question(1.3)
    talk = session(block_frames=block_frames)
    push(talk, asked, [320] * 60)
    batch = processor(block_frames)(audio=asked)
    ids = model(block_frames=block_frames).generate(**batch, max_new_tokens=10, do_sample=False)
    assert end(list(talk.run())).token_ids == ids[0, batch["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("block_frames", [5, None])
def test_later_turns_are_what_they_would_be_without_a_cache(block_frames: int | None) -> None:
    talk = session(block_frames=block_frames)
    for asked in (question(0.7), question(1.1, seed=2), question(1.3, seed=1)):
        expected = fresh_second_turn(talk, asked, block_frames)
        push(talk, asked, [4_000, 4_000])
        done = end(list(talk.run()))
        assert (done.token_ids, done.units) == (expected.token_ids, expected.units)


def test_at_the_questions_end_only_the_last_block_and_the_prompts_tail_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = session(block_frames=5)
    heard: list[int] = []  # frames of each forward of the encoder's layers
    layer = model(block_frames=5).speech_encoder.layers[0]
    handle = layer.register_forward_hook(
        lambda _module, given, _out: heard.append(len(given[0][0]))
    )
    push(talk, question(2.0), [320] * 100)
    before = sum(heard)
    counted = Counted(monkeypatch, model(block_frames=5))
    turn = talk.begin()
    handle.remove()
    assert before == 95 and sum(heard) == 100  # the last block's end was not heard before
    inputs = turn.reply.next_step_inputs()
    assert inputs is not None and counted.fed == []
    tail = len(turn.prompt_ids) - turn.prompt_ids[::-1].index(processor().audio_token_id)
    assert inputs.embeddings.shape[1] == 1 + len(turn.prompt_ids) - tail


def test_an_encoder_that_looks_both_ways_waits_and_the_prompts_head_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = session()
    talk.push_audio(question(0.5))
    talk.push_audio(question(0.5))
    turn = talk.begin()
    inputs = turn.reply.next_step_inputs()
    assert inputs is not None
    head = turn.prompt_ids.index(processor().audio_token_id)
    assert head > 0 and inputs.embeddings.shape[1] == len(turn.prompt_ids) - head


def test_with_padding_to_a_window_even_blocks_wait_for_the_end() -> None:
    padded = tiny_model(block_frames=5)
    padded.config.pad_to_window = True  # the end of the padding is not known before
    talk = SpeechSession(padded, processor(5), SHORT)
    talk.push_audio(question(1.0))
    assert talk._question.listening.positions == 0


@pytest.mark.parametrize("bad", ["silence", "too long", "too short", "nan"])
@pytest.mark.parametrize("block_frames", [5, None])
def test_a_question_that_is_refused_leaves_the_conversation_as_it_was(
    bad: str, block_frames: int | None
) -> None:
    talk, other = session(block_frames=block_frames), session(block_frames=block_frames)
    for one in (talk, other):
        answer(one, question())
    history = list(talk.history)
    asked, message = BAD[bad]
    assert isinstance(asked, np.ndarray)
    with pytest.raises(AudioError, match=message):
        push(talk, asked, [16_000] * 9)
        talk.run()
    assert talk.history == history
    push(talk, question(0.8, 1), [5_000])
    again, expected = end(list(talk.run())), answer(other, question(0.8, 1))[1]
    assert (again.token_ids, again.units) == (expected.token_ids, expected.units)


def test_samples_that_are_refused_leave_those_before_alone() -> None:
    talk = session(block_frames=5)
    asked = question(1.0)
    talk.push_audio(asked[:7_000])
    with pytest.raises(AudioError, match="NaN"):
        talk.push_audio(np.full(300, np.nan, np.float32))
    talk.push_audio(asked[7_000:])
    expected = answer(session(block_frames=5), asked)[1]
    assert end(list(talk.run())).token_ids == expected.token_ids


@pytest.mark.parametrize("block_frames", [5, None])
def test_a_reply_that_runs_is_not_disturbed_by_what_is_said_meanwhile(
    block_frames: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, quiet = (session(CHOPPED, block_frames) for _ in range(2))
    first, second = question(0.9), question(1.5, seed=1)
    events: list[Event] = []
    said = iter(np.split(second, range(1_500, 24_000, 1_500)))
    counted = Counted(monkeypatch, model(block_frames=block_frames))
    for event in talk.ask(first):
        events.append(event)
        if not isinstance(event, Done) and (piece := next(said, None)) is not None:
            talk.push_audio(piece)
    assert counted.fed[1:] == [1] * 9  # the reply's own steps, and nothing between them
    monkeypatch.undo()
    expected, done = answer(quiet, first)
    assert (end(events).token_ids, end(events).units) == (done.token_ids, done.units)
    np.testing.assert_array_equal(waveform(events), waveform(expected))
    for piece in said:
        talk.push_audio(piece)
    assert end(list(talk.run())).token_ids == answer(quiet, second)[1].token_ids


def test_text_takes_the_place_of_what_was_heard_ahead() -> None:
    talk = session(block_frames=5)
    push(talk, question(1.0), [4_000, 4_000])
    talk.push_text("How warm is it?")
    expected = answer(session(block_frames=5), "How warm is it?")[1]
    assert end(list(talk.run())).token_ids == expected.token_ids


@pytest.mark.parametrize("block_frames", [5, None])
def test_a_forward_that_fails_ahead_leaves_the_question_and_the_conversation(
    block_frames: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = session(block_frames=block_frames)
    answer(talk, "Tell me")
    asked = question(1.0)

    def failing(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(model(block_frames=block_frames).language_model, "forward", failing)
        with pytest.raises(MemoryError):
            talk.push_audio(asked[:9_000])
    expected = fresh_second_turn(talk, asked, block_frames)
    talk.push_audio(asked[9_000:])
    assert end(list(talk.run())).token_ids == expected.token_ids


def test_a_reset_forgets_what_was_being_said() -> None:
    talk = session(block_frames=5)
    push(talk, question(1.0), [4_000])
    talk.reset()
    with pytest.raises(AudioError, match="no question"):
        talk.run()
    expected = answer(session(block_frames=5), question(0.6))[1]
    assert answer(talk, question(0.6))[1].token_ids == expected.token_ids
