"""Replies that are stepped together say what each says alone, whoever comes, waits or goes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.session import AudioDelta, Done, SessionConfig, SpeechSession, Stepper, without_gradients
from omni.session.events import Event
from omni.session.sampling import Sampling
from omni.session.turn import Turn
from omni.vocoder import parse_schedule
from tests.talk import answer, model, session
from tests.tiny import question, tiny_model, tiny_processor

torch.set_num_threads(1)
WAVEFORM_BOUND = 1e-4  # the law of every streaming stage


def config(
    tokens: int, units: str = "3", sampling: Sampling | None = None, *, speak: bool = True
) -> SessionConfig:
    return SessionConfig(
        max_new_tokens=tokens, schedule=parse_schedule(units), right_context_frames=2,
        sampling=sampling or Sampling(), speak=speak,
    )  # fmt: skip


# Questions of many lengths, schedules of many kinds, greedy and drawn.
ASKED: list[tuple[np.ndarray | str, SessionConfig]] = [
    (question(1.0, seed=1), config(12)),
    ("How warm is it today?", config(20, "all", Sampling(temperature=1.0, seed=5))),
    (question(3.0, seed=2), config(9, speak=False)),
    ("What is two and two?", config(25, "1", Sampling(temperature=0.8, top_p=0.9, seed=9))),
    (question(0.5, seed=3), config(16, "7")),
    ("Tell me the capital of France.", config(5, "40")),
]
ALL = [*range(len(ASKED))]


@dataclass
class Talk:
    """A session, its open turn, and what was said so far."""

    session: SpeechSession
    turn: Turn
    events: list[Event] = field(default_factory=list[Event])
    error: Exception | None = None

    @property
    def runs(self) -> bool:
        return self.error is None and not (self.events and isinstance(self.events[-1], Done))

    @property
    def done(self) -> Done:
        last = self.events[-1]
        assert isinstance(last, Done)
        return last


def begin(number: int) -> Talk:
    asked, how = ASKED[number]
    talk = session(how)
    if isinstance(asked, str):
        talk.push_text(asked)
    else:
        talk.push_audio(asked)
    return Talk(talk, talk.begin())


@cache
def alone(number: int) -> tuple[list[Event], Done]:
    asked, how = ASKED[number]
    return answer(session(how), asked)


def step(stepper: Stepper, talks: Sequence[Talk]) -> None:
    """One token of each, or its end."""
    running = [talk for talk in talks if talk.runs]
    by_reply = {talk.turn.reply: talk for talk in running}
    ended = [talk for talk in running if talk.turn.reply.next_step_inputs() is None]
    for reply, event in stepper.step([talk.turn.reply for talk in running]):
        if isinstance(event, Exception):
            by_reply[reply].error = event
            by_reply[reply].session.forget(by_reply[reply].turn)
        else:
            by_reply[reply].events.append(event)
    for talk in ended:
        for event in without_gradients(talk.turn.reply.finish()):
            if isinstance(event, Done):
                talk.session.remember(talk.turn)
            talk.events.append(event)


def run_out(stepper: Stepper, talks: Sequence[Talk]) -> None:
    while any(talk.runs for talk in talks):
        step(stepper, talks)


def chunks(events: Sequence[Event]) -> list[AudioDelta]:
    return [event for event in events if isinstance(event, AudioDelta)]


def check_said_as_alone(talk: Talk, number: int) -> None:
    events, expected = alone(number)
    done = talk.done
    assert (done.token_ids, done.text) == (expected.token_ids, expected.text)
    assert (done.units, done.reason) == (expected.units, expected.reason)
    assert [type(event) for event in talk.events] == [type(event) for event in events]
    for found, other in zip(chunks(talk.events), chunks(events), strict=True):
        assert found.units == other.units
        np.testing.assert_allclose(found.waveform, other.waveform, atol=WAVEFORM_BOUND)


class Forwards:
    """Batch sizes of the forwards over one position, and calls of the unit decoder's step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.decoder: list[int] = []
        decoder, forward = model().unit_decoder, model().language_model.forward
        assert decoder is not None
        decode = decoder.step

        def counted(*args, **kwargs):
            batch, length, _ = kwargs["inputs_embeds"].shape
            self.sizes += [batch] if length == 1 else []
            return forward(*args, **kwargs)

        def decoded(states, state):
            self.decoder.append(len(states.values))
            return decode(states, state)

        monkeypatch.setattr(model().language_model, "forward", counted)
        monkeypatch.setattr(decoder, "step", decoded)


# Who is stepped when (others wait), who begins when, and who is cancelled at which step.
PLANS = st.lists(st.sets(st.sampled_from(ALL)), min_size=1, max_size=25)


@settings(max_examples=12, deadline=None)
@given(PLANS, st.dictionaries(st.sampled_from(ALL), st.integers(0, 20), max_size=3))
def test_each_says_what_it_says_alone(plan: list[set[int]], cancels: dict[int, int]) -> None:
    stepper = Stepper(model())
    talks: dict[int, Talk] = {}
    for place, present in enumerate(plan):
        for number in present - set(talks):
            talks[number] = begin(number)
        for number, talk in talks.items():
            if cancels.get(number) == place:
                talk.turn.reply.cancel()
        step(stepper, [talks[number] for number in present])
    run_out(stepper, [*talks.values()])
    assert stepper.one_by_one is None
    for number, talk in talks.items():
        if talk.done.reason == "cancelled":
            said = talk.done.token_ids
            assert said == alone(number)[1].token_ids[: len(said)]
        else:
            check_said_as_alone(talk, number)


def test_sixteen_replies_need_about_as_many_forwards_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, tokens = 16, 8
    talks = []
    for number in range(count):
        talk = session(config(tokens))
        talk.push_audio(question(0.5 + 0.1 * number, seed=number))
        talks.append(Talk(talk, talk.begin()))
    forwards = Forwards(monkeypatch)
    run_out(Stepper(model()), talks)
    assert max(len(talk.done.token_ids) for talk in talks) == tokens
    assert len(forwards.sizes) <= tokens + 2 and max(forwards.sizes) == count
    assert len(forwards.decoder) <= tokens + 2 and max(forwards.decoder) == count


def test_one_reply_is_stepped_without_a_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    stepper, talk, forwards = Stepper(model()), begin(0), Forwards(monkeypatch)
    run_out(stepper, [talk])
    assert set(forwards.sizes) == set(forwards.decoder) == {1} and stepper.nbytes == 0


@pytest.mark.parametrize("gate_fusion", [False, True])
def test_decoders_that_read_tokens_too_are_stepped_together(gate_fusion: bool) -> None:
    fused = tiny_model(gate_fusion=gate_fusion)
    talks, expected = [], []
    for asked in ("How warm is it today?", "What is two and two?"):
        how = config(12)
        expected.append(answer(SpeechSession(fused, tiny_processor(), how), asked)[1])
        talk = SpeechSession(fused, tiny_processor(), how)
        talk.push_text(asked)
        talks.append(Talk(talk, talk.begin()))
    run_out(Stepper(fused), talks)
    assert [talk.done.units for talk in talks] == [one.units for one in expected]
    assert [talk.done.token_ids for talk in talks] == [one.token_ids for one in expected]


# What befalls one


def test_a_broken_state_fails_its_own_reply_alone() -> None:
    stepper, talks = Stepper(model()), [begin(number) for number in ALL]
    for _ in range(3):
        step(stepper, talks)
    cache = talks[0].turn.reply.cache  # it leaves the batch, and joins it again
    assert cache is not None
    with torch.inference_mode():
        for layer in cache.layers:
            layer.keys.fill_(float("nan"))
            layer.values.fill_(float("nan"))
    run_out(stepper, talks)
    assert isinstance(talks[0].error, ArithmeticError)
    for number in ALL[1:]:
        check_said_as_alone(talks[number], number)


def test_an_error_in_the_work_of_one_is_told_of_that_one_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stepper, talks = Stepper(model()), [begin(number) for number in ALL]
    step(stepper, talks)
    vocode, heard = talks[4].session._speaker, []
    assert vocode is not None

    def failing(units, state):
        heard.append(units)
        raise OSError("no voice")

    monkeypatch.setattr(vocode, "vocode", failing)
    run_out(stepper, talks)
    assert isinstance(talks[4].error, OSError) and len(heard) == 1
    assert talks[4].session.history == []
    for number in (0, 1, 2, 3, 5):
        check_said_as_alone(talks[number], number)


def test_a_batch_that_fails_costs_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    stepper, talks = Stepper(model()), [begin(number) for number in ALL]
    for _ in range(3):
        step(stepper, talks)
    forward = model().language_model.forward

    def only_one(*args, **kwargs):
        if len(kwargs["inputs_embeds"]) > 1:
            raise MemoryError("too many")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model().language_model, "forward", only_one)
    run_out(stepper, talks)
    assert stepper.one_by_one is not None and "too many" in stepper.one_by_one
    for number in ALL:
        check_said_as_alone(talks[number], number)


# What is left behind


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
