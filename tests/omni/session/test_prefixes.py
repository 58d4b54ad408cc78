"""What stands before every first question is read once per model, whatever session comes first."""

import gc
import weakref
from dataclasses import asdict
from functools import cache

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from omni.config import OmniConfig
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.prompt import SPEECH, PromptConfig
from omni.session import Done, SpeechSession
from omni.session.memory import Memory
from omni.session.prefixes import KEPT, Prefixes, prefixes_of
from omni.session.script import opening
from tests.talk import SHORT, Counted, answer, push, session
from tests.tiny import question, tiny_config, tiny_model, tiny_processor

torch.set_num_threads(1)


@cache
def processor() -> OmniProcessor:
    """With a system prompt, so that there is something to share."""
    config = tiny_config(block_frames=5)
    config.prompt = asdict(PromptConfig(speech_line=SPEECH, system="It is warm today, I think."))
    return tiny_processor(config)


def begun(model: OmniForConditionalGeneration, asked: str | float) -> SpeechSession:
    talk = SpeechSession(model, processor(), SHORT)
    if isinstance(asked, str):
        talk.push_text(asked)
    else:
        push(talk, question(asked), [4_000] * 5)
    return talk


def said(talk: SpeechSession) -> Done:
    done = list(talk.run())[-1]
    assert isinstance(done, Done)
    return done


def fed(talk: SpeechSession, counted: Counted) -> int:
    turn = talk.begin()
    inputs = turn.reply.next_step_inputs()
    assert inputs is not None
    return sum(counted.fed) + inputs.embeddings.shape[1]


@pytest.mark.parametrize("second", [1.0, "Tell me"])
@pytest.mark.parametrize("first", [1.0, "How warm is it?"])
def test_a_second_session_does_not_read_it_again_and_answers_alike(
    first: str | float, second: str | float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(block_frames=5)
    expected = said(begun(tiny_model(block_frames=5), second))
    said(begun(model, first))
    done = said(begun(model, second))
    assert (done.token_ids, done.units) == (expected.token_ids, expected.units)
    counted = Counted(monkeypatch, model)
    talk = begun(model, second)
    shared = len(opening(processor()))
    assert shared > 10
    assert fed(talk, counted) == len(talk._open.prompt_ids if talk._open else ()) - shared


def test_sessions_write_into_copies() -> None:
    model = tiny_model(block_frames=5)
    expected = said(begun(model, "Tell me"))
    one, other = begun(model, 1.0), begun(model, 1.0)
    for talk in (one, other):
        said(talk)
    assert said(begun(model, "Tell me")).token_ids == expected.token_ids


def test_trained_weights_have_prefixes_of_their_own() -> None:
    trained, fresh = tiny_model(block_frames=5), tiny_model(block_frames=5)
    before = said(begun(trained, "Tell me")).token_ids
    for model in (trained, fresh):
        with torch.no_grad():
            for weight in model.language_model.parameters():
                weight += 0.1 * torch.randn(
                    weight.shape, generator=torch.Generator().manual_seed(3)
                )
    done = said(begun(trained, "Tell me"))
    assert done.token_ids == said(begun(fresh, "Tell me")).token_ids != before


def test_with_adapters_that_can_be_switched_nothing_is_shared() -> None:
    peft = pytest.importorskip("peft")
    model = tiny_model(block_frames=5)
    model.language_model = peft.get_peft_model(
        model.language_model, peft.LoraConfig(r=2, target_modules="all-linear")
    )
    said(begun(model, "Tell me"))
    assert prefixes_of(model.language_model).copy(opening(processor())) == Memory()


def test_prefixes_go_with_their_model() -> None:
    model = tiny_model(block_frames=5)
    said(begun(model, "Tell me"))
    kept = weakref.ref(prefixes_of(model.language_model))
    assert kept() is not None
    del model
    gc.collect()
    assert kept() is None


def test_the_least_used_prefix_is_forgotten_beyond_a_number() -> None:
    talk = session()
    answer(talk, "What is two and two? How warm is it today, I think?")
    memory, prefixes = talk._prefill.memory, Prefixes(())
    ids = tuple(label for label in memory.labels if isinstance(label, int))
    assert len(ids) > KEPT + 1
    for length in range(1, KEPT + 1):
        prefixes.keep(ids[:length], memory)
    assert prefixes.copy(ids[:1]).labels == ids[:1]  # used just now
    prefixes.keep(ids[: KEPT + 1], memory)
    lengths = [n for n in range(1, KEPT + 2) if prefixes.copy(ids[:n]).labels]
    assert lengths == [1, *range(3, KEPT + 2)]


def sliding_model() -> OmniForConditionalGeneration:
    """An LLM whose cache forgets what lies behind a window, and so can't be cut back."""
    plain = tiny_model(block_frames=5)
    llama = plain.config.text_config
    sizes = {
        name: getattr(llama, name)
        for name in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "intermediate_size", "max_position_embeddings", "eos_token_id",
        )
    }  # fmt: skip
    config = MistralConfig(**sizes, num_key_value_heads=2, sliding_window=16)
    torch.manual_seed(0)
    values = plain.config.to_dict() | {"text_config": config.to_dict()}
    model = OmniForConditionalGeneration(OmniConfig(**values), MistralForCausalLM(config))
    model.speech_encoder = plain.speech_encoder
    for parameter in model.language_model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.25)
    return model.eval()


def test_a_cache_that_cannot_be_cut_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    model = sliding_model()
    whole = [answer(SpeechSession(model, processor(), SHORT), question(1.0))[1] for _ in range(2)]
    assert whole[0].token_ids == whole[1].token_ids
    counted = Counted(monkeypatch, model)
    talk = begun(model, 1.0)
    talk.speculate()
    assert len(counted.fed) == 1  # which showed what kind of cache it is
    assert said(talk).token_ids == whole[0].token_ids
    assert talk._prefill.memory == Memory()
