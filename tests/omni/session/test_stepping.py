"""Replies that are stepped together say what each says alone, whoever comes, waits or goes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.session import SpeechSession, Stepper
from tests.stepping import ALL, Talk, alone, begin, check_said_as_alone, config, run_out, step
from tests.talk import answer, model, session
from tests.tiny import question, tiny_model, tiny_processor

torch.set_num_threads(1)


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
