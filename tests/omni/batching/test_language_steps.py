"""LLMs of several families: replies of different ages in one forward, as each alone."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from omni.batching import LanguageModelSteps, StepInputs, StepOutput
from omni.language_model import add_lora

torch.set_num_threads(1)
WIDTH = 32
# Sums in another order round otherwise (float32): the largest that was seen is 4e-6.
BOUND = 2e-5
SIZES = dict(
    vocab_size=60, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, intermediate_size=48, max_position_embeddings=512, head_dim=8,
)  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip


def seeded(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def llama(**fields) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, **fields))


TOGETHER = {
    "llama": llama,
    "llama3": partial(llama, rope_parameters=LLAMA3),
    "eager attention": partial(llama, attn_implementation="eager"),
    "lora": lambda: add_lora(llama(), rank=2, alpha=4),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZES)),
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
ONE_BY_ONE = {
    "sliding window": (
        lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=16)),
        "DynamicSlidingWindowLayer",
    ),
    "some layers with a sliding window": (
        lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, sliding_window=16)),
        "DynamicSlidingWindowLayer",
    ),
    "positions scaled by the longest": (
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=DYNAMIC)),
        "'dynamic' depends on the longest",
    ),
}


class Conversation:
    """A prompt of its own, then positions of its own, as far as it is stepped."""

    def __init__(self, seed: int, prompt: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._next = torch.randn(1, prompt, WIDTH, generator=self._generator)
        self._past = None
        self.outputs: list[StepOutput] = []

    def inputs(self) -> StepInputs:
        return StepInputs(self._next, self._past)

    def take(self, output: StepOutput | Exception) -> None:
        assert isinstance(output, StepOutput), output
        self.outputs.append(output)
        self._past = output.past
        self._next = torch.randn(1, 1, WIDTH, generator=self._generator)


class Forwards:
    """Batch sizes of an LLM's forwards over one position."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.sizes: list[int] = []
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: object, args: object, kwargs: dict) -> None:
        batch, length, _ = kwargs["inputs_embeds"].shape
        self.sizes += [batch] if length == 1 else []


def step(steps: LanguageModelSteps, talks: list[Conversation]) -> None:
    for talk, output in zip(talks, steps.run([talk.inputs() for talk in talks]), strict=True):
        talk.take(output)


def furthest(talk: Conversation, model: PreTrainedModel, seed: int, prompt: int) -> float:
    """The largest difference of a state or logit from the same conversation alone."""
    alone, steps = Conversation(seed, prompt), LanguageModelSteps(model)
    for _ in talk.outputs:
        step(steps, [alone])
    return max(
        float((one - other).abs().max())
        for found, expected in zip(talk.outputs, alone.outputs, strict=True)
        for one, other in ((found.hidden, expected.hidden), (found.logits, expected.logits))
    )


@pytest.mark.parametrize("family", TOGETHER)
def test_replies_of_different_ages_share_a_forward(family: str) -> None:
    model = seeded(TOGETHER[family])
    steps, forwards = LanguageModelSteps(model), Forwards(model)
    prompts = [7, 20, 12, 9]
    talks = [Conversation(seed, prompt) for seed, prompt in enumerate(prompts)]
    for _ in range(1 + 5):
        step(steps, talks)
    assert steps.one_by_one is None
    assert forwards.sizes == [4] * 5
    for seed, (talk, prompt) in enumerate(zip(talks, prompts, strict=True)):
        assert furthest(talk, model, seed, prompt) < BOUND


@pytest.mark.parametrize("family", ONE_BY_ONE)
def test_an_llm_that_can_not_share_is_stepped_one_by_one_and_says_why(family: str) -> None:
    build, reason = ONE_BY_ONE[family]
    model = seeded(build)
    steps, forwards = LanguageModelSteps(model), Forwards(model)
    prompts = [14, 20]  # into the window, and beyond it
    talks = [Conversation(seed, prompt) for seed, prompt in enumerate(prompts)]
    for _ in range(1 + 4):
        step(steps, talks)
    assert steps.one_by_one is not None and reason in steps.one_by_one
    assert forwards.sizes == [1] * 8
    for seed, (talk, prompt) in enumerate(zip(talks, prompts, strict=True)):
        assert furthest(talk, model, seed, prompt) == 0.0


MODEL = seeded(llama)
# Who takes part in each step: any of six.
WHO = st.lists(st.lists(st.integers(0, 5), unique=True), min_size=1, max_size=15)


@settings(max_examples=15, deadline=None)
@given(WHO, st.lists(st.integers(1, 60), min_size=6, max_size=6))
def test_joining_leaving_and_pausing_change_nothing(
    who: list[list[int]], prompts: list[int]
) -> None:
    talks = [Conversation(seed, prompt) for seed, prompt in enumerate(prompts)]
    steps = LanguageModelSteps(MODEL)
    for present in who:
        step(steps, [talks[number] for number in present])
    for seed, talk in enumerate(talks):
        if talk.outputs:
            assert furthest(talk, MODEL, seed, prompts[seed]) < BOUND


def test_one_long_conversation_does_not_lengthen_the_others() -> None:
    model = seeded(llama)
    steps, forwards = LanguageModelSteps(model), Forwards(model)
    talks = [Conversation(seed, prompt) for seed, prompt in enumerate([10, 11, 400, 12])]
    step(steps, talks)
    step(steps, talks)
    assert sorted(forwards.sizes) == [1, 3]
    held = 2 * 2 * 2 * 8 * 4  # bytes of a position: two layers' keys and values, 2 heads of 8
    assert steps.nbytes <= 4 * 64 * held


def test_a_batch_that_fails_is_stepped_one_by_one_and_tried_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("omni.batching.together.REST", 2)
    model = seeded(llama)
    forward, no_room, tried = model.forward, True, 0

    def only_one(**kwargs):
        nonlocal tried
        several = len(kwargs["inputs_embeds"]) > 1
        tried += several
        if several and no_room:
            raise RuntimeError("no batches here")
        return forward(**kwargs)

    monkeypatch.setattr(model, "forward", only_one)
    steps = LanguageModelSteps(model)
    talks = [Conversation(seed, prompt) for seed, prompt in enumerate([5, 8])]
    step(steps, talks)  # the prompts
    for tries in (1, 1, 1, 2, 2, 2, 2, 2, 3):  # it rests for two steps, then for four
        step(steps, talks)
        assert steps.one_by_one is not None and "no batches here" in steps.one_by_one
        assert tried == tries
    assert furthest(talks[0], model, 0, 5) == furthest(talks[1], model, 1, 8) == 0.0
    no_room = False
    for _ in range(9):
        step(steps, talks)
    assert steps.one_by_one is None and tried == 4
