"""`--compile`: sessions say with compiled steps what they say without."""

from collections.abc import Iterator

import torch

from omni.batching import Size, compiled_steps
from omni.model import OmniForConditionalGeneration
from omni.session import Done, Reply, SessionConfig, SpeechSession, Stepper, compile_steps
from omni.session.compiling import slots_for
from tests.tiny import question, tiny_model, tiny_processor

torch.set_num_threads(1)
TOKENS = [12, 20, 9]


def replies(model: OmniForConditionalGeneration) -> Iterator[Reply]:
    processor = tiny_processor()
    for seed, tokens in enumerate(TOKENS):
        session = SpeechSession(model, processor, SessionConfig(max_new_tokens=tokens))
        session.push_audio(question(0.5 + 0.5 * seed, seed=seed))
        yield session.begin().reply


def said(model: OmniForConditionalGeneration) -> list[tuple[list[int], list[int], str]]:
    """One begins alone, others join at later steps, three are too many, each leaves at its end."""
    stepper, waiting, running, found = Stepper(model), [*replies(model)], [], []
    while waiting or running:
        running += [waiting.pop(0)] if waiting else []
        for _ in range(4):
            for _, event in stepper.step(running):
                assert not isinstance(event, Exception), event
        for reply in [reply for reply in running if reply.next_step_inputs() is None]:
            running.remove(reply)
            *_, done = reply.finish()
            assert isinstance(done, Done)
            found.append((done.token_ids, done.units, done.text))
    return found


def test_sessions_that_join_and_leave_say_the_same_tokens_and_units() -> None:
    plain, compiled, told = tiny_model(), tiny_model(), []
    compile_steps(
        compiled, sessions=2, backend="eager", progress=lambda *so_far: told.append(so_far)
    )
    assert said(compiled) == said(plain)
    # The tiny LLM has 512 positions: two sizes; and three of the decoder; each for one and two.
    assert told[0] == (0, 10) and told[-1] == (10, 10)
    steps = compiled_steps(compiled.language_model)
    assert steps is not None and steps.failed is None
    assert steps.sizes[0] == Size(1, 256) and steps.sizes[-1] == Size(2, 512)


def test_there_is_a_size_for_every_number_of_sessions() -> None:
    assert [slots_for(sessions) for sessions in (1, 2, 3, 8)] == [
        [1], [1, 2], [1, 2, 4], [1, 2, 4, 8]
    ]  # fmt: skip
