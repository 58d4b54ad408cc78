"""At a pause the question may have ended: what is done then is used, or never was."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from omni.audio import AudioError
from omni.prompt import Message
from omni.session import SpeechSession
from omni.session.events import Done, Event
from omni.session.turn import Turn
from omni.vocoder import Fixed
from tests.talk import BAD, SHORT, Counted, answer, fresh_second_turn, model, push, session, step
from tests.tiny import question

torch.set_num_threads(1)
ENCODERS = pytest.mark.parametrize("block_frames", [None, 5, 3])
ASKED = question(1.4, seed=1)
PAUSE = 14_000  # samples before it


def run_out(talk: SpeechSession) -> Done:
    done = list(talk.run())[-1]
    assert isinstance(done, Done)
    return done


def advance(turn: Turn, block_frames: int | None, steps: int) -> list[Event]:
    """The reply's first steps, as an engine makes them."""
    events: list[Event] = []
    with torch.inference_mode():
        for _ in range(steps):
            events += step(turn, block_frames)
        if turn.reply.next_step_inputs() is None:
            events += turn.reply.finish()
    return events


def same(one: Done, other: Done) -> bool:
    return (one.text, one.token_ids, one.units) == (other.text, other.token_ids, other.units)


# Getting ready


@ENCODERS
def test_after_a_pause_that_was_the_end_one_position_is_left(
    block_frames: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = session(block_frames=block_frames)
    expected = answer(session(block_frames=block_frames), ASKED)[1]
    push(talk, ASKED, [5_000, 5_000])
    talk.speculate()
    talk.speculate()  # has nothing left to do
    encoded: list[object] = []
    encoder = model(block_frames=block_frames).speech_encoder
    handle = encoder.layers[0].register_forward_hook(lambda *given: encoded.append(given))
    counted = Counted(monkeypatch, model(block_frames=block_frames))
    done = run_out(talk)
    handle.remove()
    assert encoded == [] and counted.fed == [1] * len(done.token_ids)
    assert same(done, expected)


@ENCODERS
def test_after_a_pause_that_was_none_the_answer_is_as_if_it_had_not_been(
    block_frames: int | None,
) -> None:
    talk = session(block_frames=block_frames)
    answer(talk, "Tell me")
    expected = fresh_second_turn(talk, ASKED, block_frames)
    history = list(talk.history)
    for start, end in ((0, 6_000), (6_000, PAUSE), (PAUSE, len(ASKED))):
        talk.push_audio(ASKED[start:end])
        talk.speculate()
    assert talk.history == history
    assert same(run_out(talk), expected)
    expected = fresh_second_turn(talk, "Tell me", block_frames)
    assert same(answer(talk, "Tell me")[1], expected)


@pytest.mark.parametrize("bad", ["silence", "too long", "too short"])
@ENCODERS
def test_where_there_is_nothing_to_be_ready_for_nothing_is_done(
    block_frames: int | None, bad: str
) -> None:
    talk = session(block_frames=block_frames)
    asked, message = BAD[bad]
    assert isinstance(asked, np.ndarray)
    talk.push_audio(asked)
    talk.speculate()
    with pytest.raises(AudioError, match=message):
        talk.begin()
    talk.speculate()
    talk.push_text("Tell me")
    talk.speculate()
    assert same(run_out(talk), answer(session(block_frames=block_frames), "Tell me")[1])


@ENCODERS
def test_a_reply_that_runs_is_not_disturbed_by_getting_ready_for_the_next(
    block_frames: int | None,
) -> None:
    talk, quiet = (session(block_frames=block_frames) for _ in range(2))
    events = talk.ask(question(0.8))
    heard = [next(events) for _ in range(3)]
    talk.push_audio(ASKED)
    talk.speculate()
    done = [*heard, *events][-1]
    assert isinstance(done, Done) and same(done, answer(quiet, question(0.8))[1])
    assert same(run_out(talk), answer(quiet, ASKED)[1])


# Starting the reply, and taking it back


@pytest.mark.parametrize("steps", [0, 1, 4, 30])
@ENCODERS
def test_a_reply_that_was_begun_too_early_never_was(block_frames: int | None, steps: int) -> None:
    talk, plain = (session(block_frames=block_frames) for _ in range(2))
    for one in (talk, plain):
        answer(one, question(0.7))
    history = list(talk.history)
    push(talk, ASKED[:PAUSE], [4_000, 4_000])
    turn = talk.begin()
    advance(turn, block_frames, steps)
    talk.reopen(turn)
    assert talk.history == history
    assert turn.reply.next_step_inputs() is None
    talk.push_audio(ASKED[PAUSE:])
    assert same(run_out(talk), answer(plain, ASKED)[1])
    assert [m.positions for m in talk.history] == [m.positions for m in plain.history]
    assert same(answer(talk, "Tell me")[1], answer(plain, "Tell me")[1])


@ENCODERS
def test_a_reply_whose_events_were_held_back_is_the_one_that_would_have_been_asked_for(
    block_frames: int | None,
) -> None:
    steady = replace(SHORT, schedule=Fixed(4))  # no clock decides where chunks end
    talk, plain = (session(steady, block_frames) for _ in range(2))
    talk.push_audio(ASKED)
    turn = talk.begin()
    held = advance(turn, block_frames, 30)
    talk.remember(turn)
    expected, done = answer(plain, ASKED)
    assert [type(event) for event in held] == [type(event) for event in expected]
    assert isinstance(held[-1], Done) and same(held[-1], done)
    assert same(answer(talk, "Tell me")[1], answer(plain, "Tell me")[1])


def again(talk: SpeechSession) -> None:
    """Begun and taken back."""
    talk.reopen(talk.begin())


def ready(talk: SpeechSession) -> None:
    talk.speculate()


@pytest.mark.parametrize("pause", [again, ready])
@ENCODERS
def test_what_was_computed_before_a_false_end_is_not_computed_again(
    block_frames: int | None, pause: Callable[[SpeechSession], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    talk = session(block_frames=block_frames)
    push(talk, ASKED[:PAUSE], [4_000, 4_000])
    before = talk._prefill.memory.labels
    pause(talk)
    counted = Counted(monkeypatch, model(block_frames=block_frames))
    talk.push_audio(ASKED[PAUSE:])
    turn = talk.begin()
    inputs = turn.reply.next_step_inputs()
    assert inputs is not None
    assert turn.script.labels[: len(before)] == before != ()
    assert sum(counted.fed) + inputs.embeddings.shape[1] == len(turn.prompt_ids) - len(before)


@ENCODERS
def test_what_was_pushed_meanwhile_follows_what_was_pushed_before(
    block_frames: int | None,
) -> None:
    talk = session(block_frames=block_frames)
    talk.push_audio(ASKED[:PAUSE])
    turn = talk.begin()
    talk.push_audio(ASKED[PAUSE : PAUSE + 2_000])
    advance(turn, block_frames, 2)
    talk.push_audio(ASKED[PAUSE + 2_000 :])
    talk.reopen(turn)
    assert same(run_out(talk), answer(session(block_frames=block_frames), ASKED)[1])


def test_text_that_was_written_meanwhile_takes_the_place_of_the_question() -> None:
    talk = session()
    talk.push_audio(ASKED)
    turn = talk.begin()
    talk.push_text("Tell me")
    talk.reopen(turn)
    assert same(run_out(talk), answer(session(), "Tell me")[1])
    assert talk.history[0] == Message(role="user", text="Tell me")


def test_a_written_question_is_open_again_until_something_is_said() -> None:
    talk = session()
    talk.push_text("Tell me")
    talk.reopen(talk.begin())
    talk.reopen(talk.begin())
    assert same(run_out(talk), answer(session(), "Tell me")[1])
    talk.reset()
    talk.push_text("Tell me")
    turn = talk.begin()
    talk.push_audio(ASKED)
    talk.reopen(turn)
    assert same(run_out(talk), answer(session(), ASKED)[1])


def test_a_turn_that_is_over_is_not_opened_again() -> None:
    talk, other = session(), session()
    talk.push_text("Tell me")
    turn = talk.begin()
    talk.remember(turn)
    talk.reopen(turn)
    with pytest.raises(AudioError, match="no question"):
        talk.begin()
    with pytest.raises(ValueError, match="begun by another session"):
        other.reopen(turn)


def test_a_forward_that_broke_off_is_not_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer of its cache is longer than the next: nothing of it is used."""
    talk = session()
    talk.push_audio(ASKED[:PAUSE])
    turn = talk.begin()
    layer = model().language_model.model.layers[1]

    def failing(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", failing)
        with pytest.raises(MemoryError):
            advance(turn, None, 1)
    talk.reopen(turn)
    talk.push_audio(ASKED[PAUSE:])
    assert same(run_out(talk), answer(session(), ASKED)[1])
