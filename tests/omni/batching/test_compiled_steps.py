"""Compiled steps say what steps say that are not; they are used where they fit, and never awaited.

Most are "compiled" by torch's backend `eager`, which takes a step apart and runs what it found. One
goes all the way to machine code.
"""

import logging
import shutil
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from omni.batching import (
    CompiledSteps,
    LanguageModelSteps,
    Size,
    SpeechInputs,
    StepInputs,
    StepOutput,
    UnitDecoderSteps,
    compile_language_model,
    compile_unit_decoder,
    compiled_steps,
)
from omni.unit_decoder import UnitDecoder, UnitDecoderConfig
from omni.values import Frames

torch.set_num_threads(1)
WIDTH = 32
BOUND = 2e-5  # sums in another order round otherwise (float32)
SIZES = dict(
    vocab_size=60, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, intermediate_size=48, max_position_embeddings=512, head_dim=8,
)  # fmt: skip


def llama() -> LlamaForCausalLM:
    """Seeded: two of them are the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**SIZES))
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def unit_decoder() -> UnitDecoder:
    config = UnitDecoderConfig(
        input_width=WIDTH, width=32, layers=2, heads=2, ffn=48, num_units=20, upsample=5
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UnitDecoder(config).eval()


class Talk:
    """A prompt of its own, then positions of its own; each state goes on to the unit decoder."""

    def __init__(self, seed: int, prompt: int, decoder: UnitDecoder) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._next = torch.randn(1, prompt, WIDTH, generator=self._generator)
        self._past = None
        self._spoken = decoder.initial_state(1)
        self.made: list[Tensor] = []

    def inputs(self) -> StepInputs:
        return StepInputs(self._next, self._past)

    def read(self, output: StepOutput | Exception) -> SpeechInputs:
        assert isinstance(output, StepOutput), output
        self._past = output.past
        self._next = torch.randn(1, 1, WIDTH, generator=self._generator)
        last = output.hidden[:, -1:]
        self.made += [last, output.logits]
        return SpeechInputs(Frames(last, torch.tensor([1])), self._spoken)

    def speak(self, output) -> None:
        assert not isinstance(output, Exception), output
        self._spoken = output.past
        assert output.log_probs.lengths.tolist() == [5]
        self.made.append(output.log_probs.values)


class Model:
    """An LLM and a unit decoder, stepped as a session steps them."""

    def __init__(self) -> None:
        self.llm, self.decoder = llama(), unit_decoder()
        self.steps = LanguageModelSteps(self.llm), UnitDecoderSteps(self.decoder)

    def compile(self, sizes: Sequence[Size], backend: str = "eager") -> list[CompiledSteps | None]:
        return [
            compile_language_model(self.llm, sizes, backend=backend),
            compile_unit_decoder(self.decoder, sizes, backend=backend),
        ]

    def talks(self, prompts: Sequence[int]) -> list[Talk]:
        return [Talk(seed, prompt, self.decoder) for seed, prompt in enumerate(prompts)]

    def step(self, talks: Sequence[Talk]) -> None:
        llm, decoder = self.steps
        read = llm.run([talk.inputs() for talk in talks])
        due = [talk.read(output) for talk, output in zip(talks, read, strict=True)]
        for talk, output in zip(talks, decoder.run(due), strict=True):
            talk.speak(output)


def furthest(found: Sequence[Talk], expected: Sequence[Talk]) -> float:
    """The largest difference of a state, a logit or a unit's log-probability."""
    pairs = [
        (one, other)
        for talk, same in zip(found, expected, strict=True)
        for one, other in zip(talk.made, same.made, strict=True)
    ]
    assert pairs
    return max(float((one - other).abs().max()) for one, other in pairs)


class Used:
    """How many steps were compiled ones."""

    def __init__(self, steps: CompiledSteps | None, monkeypatch: pytest.MonkeyPatch) -> None:
        assert steps is not None
        self.sizes: list[Size] = []
        run = steps.run

        def noted(part, inputs, lengths, storage):
            made = run(part, inputs, lengths, storage)
            if made is not None:
                self.sizes.append(Size(storage[0].shape[1], storage[0].shape[3]))
            return made

        monkeypatch.setattr(steps, "run", noted)


PLAIN, COMPILED = Model(), Model()
# Room for one, for two and for four; not for all six, and not for long ones.
ROOM = [Size(1, 64), Size(2, 64), Size(4, 64), Size(4, 128)]
WHO = st.lists(st.lists(st.integers(0, 5), unique=True), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def compiled() -> Model:
    COMPILED.compile(ROOM)
    return COMPILED


@settings(max_examples=12, deadline=None)
@given(WHO, st.lists(st.integers(1, 150), min_size=6, max_size=6))
def test_joining_leaving_and_outgrowing_a_size_change_nothing(
    compiled: Model, who: list[list[int]], prompts: list[int]
) -> None:
    found, expected = compiled.talks(prompts), PLAIN.talks(prompts)
    for present in [[*range(6)], *who]:
        compiled.step([found[number] for number in present])
        PLAIN.step([expected[number] for number in present])
    assert furthest(found, expected) < BOUND
    for part in (compiled.llm, compiled.decoder):
        steps = compiled_steps(part)
        assert steps is not None and steps.failed is None


def test_one_alone_is_stepped_by_a_compiled_step(
    compiled: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = [Used(compiled_steps(part), monkeypatch) for part in (compiled.llm, compiled.decoder)]
    talks = compiled.talks([7])
    for _ in range(4):
        compiled.step(talks)
    assert [one.sizes for one in used] == [[Size(1, 64)] * 3, [Size(1, 64)] * 4]


def test_a_step_that_no_compiled_size_fits_runs_as_before(
    compiled: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = Used(compiled_steps(compiled.llm), monkeypatch)
    found, expected = compiled.talks([130, 140, 150]), PLAIN.talks([130, 140, 150])
    for _ in range(3):
        compiled.step(found)
        PLAIN.step(expected)
    assert used.sizes == [] and furthest(found, expected) < BOUND


def test_a_part_that_has_changed_since_is_not_compiled_anew_while_someone_waits() -> None:
    model, compiled_at = Model(), []

    def counting(graph: torch.fx.GraphModule, _: object):
        compiled_at.append(1)
        return graph.forward

    steps = compile_language_model(model.llm, [Size(1, 64)], backend=counting)
    assert compiled_at == [1]
    talks, expected = model.talks([7]), PLAIN.talks([7])
    model.llm.train()  # changes nothing else here: there is no dropout
    for _ in range(3):
        model.step(talks)
        PLAIN.step(expected)
    assert compiled_at == [1]
    assert steps is not None and steps.failed is None and furthest(talks, expected) < BOUND


def test_a_failure_leaves_replies_as_they_were_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model()
    steps, _ = model.compile([Size(1, 64), Size(2, 64)], backend="no_such_backend")
    assert steps is not None and steps.failed is not None and "no_such_backend" in steps.failed
    assert [record.getMessage().partition(" is not")[0] for record in caplog.records] == [
        "language model step",
        "unit decoder step",
    ]
    found, expected = model.talks([7, 9]), PLAIN.talks([7, 9])
    for _ in range(3):
        model.step(found)
        PLAIN.step(expected)
    assert furthest(found, expected) == 0.0 and len(caplog.records) == 2


def test_a_machine_without_a_compiler_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    steps = compile_unit_decoder(unit_decoder(), [Size(1, 64)])
    assert steps.sizes == [] and "install g++" in caplog.text


def test_an_llm_that_can_not_lie_in_a_buffer_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=16)).eval()
    with caplog.at_level(logging.WARNING):
        assert compile_language_model(model, [Size(1, 64)], backend="eager") is None
    assert "DynamicSlidingWindowLayer" in caplog.text and compiled_steps(model) is None


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for CPUs by g++")
def test_machine_code_says_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = unit_decoder()
    steps = compile_unit_decoder(decoder, [Size(2, 64)])
    assert steps.sizes == [Size(2, 64)], caplog.text
    generator = torch.Generator().manual_seed(0)
    ours, plain = UnitDecoderSteps(decoder), UnitDecoderSteps(PLAIN.decoder)
    pasts = [[decoder.initial_state(1) for _ in range(2)] for _ in range(2)]
    for _ in range(3):
        states = [Frames(torch.randn(1, 1, WIDTH, generator=generator), torch.tensor([1]))] * 2
        outputs = [
            part.run([SpeechInputs(*one) for one in zip(states, past, strict=True)])
            for part, past in zip((ours, plain), pasts, strict=True)
        ]
        for found, expected in zip(*outputs, strict=True):
            difference = found.log_probs.values - expected.log_probs.values
            assert float(difference.abs().max()) < BOUND
        pasts = [[output.past for output in made] for made in outputs]
