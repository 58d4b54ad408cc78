"""What stepping together leaves behind: buffers, places, and conversations that go on."""

import torch

from omni.session import Stepper
from tests.stepping import ALL, ASKED, Talk, begin, check_said_as_alone, run_out, step
from tests.talk import answer, model, session
from tests.tiny import question

torch.set_num_threads(1)


def test_buffers_are_given_back_when_nothing_runs() -> None:
    stepper, talks = Stepper(model()), [begin(number) for number in ALL]
    for _ in range(3):
        step(stepper, talks)
    assert stepper.nbytes > 0
    stepper.rest()
    assert stepper.nbytes == 0
    run_out(stepper, talks)
    for number in ALL:
        check_said_as_alone(talks[number], number)


def test_places_are_used_again_by_those_who_come_later() -> None:
    stepper, mate = Stepper(model()), begin(3)
    sizes: list[int] = []
    for _ in range(6):
        talk = begin(5)
        for _ in range(3):
            step(stepper, [mate, talk])
        sizes.append(stepper.nbytes)
        talk.turn.reply.cancel()
        step(stepper, [mate, talk])
    assert 0 < max(sizes) <= 2 * sizes[0]


def test_a_conversation_goes_on_from_what_it_said_in_a_batch() -> None:
    stepper, talks = Stepper(model()), [begin(number) for number in ALL]
    run_out(stepper, talks)
    for number in (0, 4, 5):  # greedy ones
        by_itself = session(ASKED[number][1])
        answer(by_itself, ASKED[number][0])
        again: list[Talk] = []
        for talk in (talks[number].session, by_itself):
            talk.push_text("What is two and two?")
            again.append(Talk(talk, talk.begin()))
        new = [talk.turn.reply.next_step_inputs() for talk in again]
        lengths = [inputs.embeddings.shape[1] for inputs in new if inputs is not None]
        assert lengths[0] == lengths[1] < len(again[0].turn.prompt_ids)
        run_out(stepper, again)
        assert again[0].done.token_ids == again[1].done.token_ids


def test_a_turn_is_reopened_from_within_a_batch() -> None:
    whole = question(2.0, seed=1)
    expected = answer(session(ASKED[0][1]), whole)[1]
    stepper, others = Stepper(model()), [begin(1), begin(3)]
    talk = session(ASKED[0][1])
    talk.push_audio(whole[:18_000])
    paused = Talk(talk, talk.begin())
    for _ in range(4):
        step(stepper, [paused, *others])
    talk.reopen(paused.turn)
    talk.push_audio(whole[18_000:])
    again = Talk(talk, talk.begin())
    run_out(stepper, [again, *others])
    assert (again.done.token_ids, again.done.units) == (expected.token_ids, expected.units)
    check_said_as_alone(others[0], 1)
    check_said_as_alone(others[1], 3)
