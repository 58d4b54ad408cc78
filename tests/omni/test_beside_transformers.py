"""The calls that users of Qwen2-Audio write, made to it and to ours: what comes back is alike."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2Config,
    WhisperFeatureExtractor,
)

from tests.any_to_any import any_to_any
from tests.tiny import TEXTS, question, tiny_model, tiny_processor
from train.bases.lm import build_tokenizer

CONTROL = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|im_start|>", "<|im_end|>")
# The one name in which Qwen2-Audio differs from the newer models, which say what we say.
OURS = {"feature_attention_mask": "input_features_mask"}
LENGTH = 5


@cache
def theirs() -> tuple[Any, Any]:
    """Qwen2-Audio of random weights: the class itself, as small as it goes."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(TEXTS, 320)
    tokenizer.add_special_tokens({"additional_special_tokens": list(CONTROL)}, False)
    tokenizer.padding_side = "left"
    # Its own template is a default of the processor's.
    tokenizer.chat_template = None
    processor = Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=20), tokenizer)
    config = Qwen2AudioConfig(
        audio_config=Qwen2AudioEncoderConfig(
            num_mel_bins=20, d_model=16, encoder_layers=1, encoder_attention_heads=2,
            encoder_ffn_dim=16,
        ).to_dict(),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2,
        ).to_dict(),
        audio_token_index=processor.audio_token_id,
    )  # fmt: skip
    model = Qwen2AudioForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor


@cache
def ours() -> tuple[Any, Any]:
    return tiny_model(), tiny_processor()


def chat(*seconds: float, text: str = "How warm is it?") -> list[dict[str, Any]]:
    audio = [{"type": "audio", "audio": question(one, seed=3)} for one in seconds]
    return [
        {"role": "user", "content": [*audio, {"type": "text", "text": text}]},
        {"role": "assistant", "content": "Quite warm."},
        {"role": "user", "content": [{"type": "audio", "audio": question(0.5)}]},
    ]


def both(call: Any) -> tuple[Any, Any]:
    """The same call to their model and processor and to ours."""
    return call(*theirs()), call(*ours())


def form(value: Any) -> Any:
    """Types, dimensions and keys: everything but sizes and numbers."""
    if isinstance(value, torch.Tensor):
        return "tensor", value.ndim, value.is_floating_point()
    if isinstance(value, dict):
        return {key: form(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [form(entry) for entry in value]
    return type(value)


@pytest.mark.parametrize("batched", [False, True])
def test_a_template_without_tokens_gives_text(batched: bool) -> None:
    conversation = [chat(1.0), chat(0.5, 0.7)] if batched else chat(1.0)
    their, our = both(
        lambda _, processor: processor.apply_chat_template(
            conversation, add_generation_prompt=True, tokenize=False
        )
    )
    assert form(their) == form(our)
    for (_, processor), text in zip((theirs(), ours()), (their, our), strict=True):
        found = [one.count(processor.audio_token) for one in (text if batched else [text])]
        assert found == ([2, 3] if batched else [2])


@pytest.mark.parametrize("batched", [False, True])
def test_a_template_with_tokens_gives_a_batch_of_the_same_names_and_shapes(batched: bool) -> None:
    conversation = [chat(1.0), chat(0.5, 0.7)] if batched else chat(1.0)
    their, our = both(
        lambda _, processor: processor.apply_chat_template(
            conversation, add_generation_prompt=True, tokenize=True, return_dict=True,
            return_tensors="pt", processor_kwargs={"padding": True},
        )
    )  # fmt: skip
    assert type(their) is type(our)
    assert {OURS.get(name, name) for name in their} == set(our)
    for name, value in their.items():
        same = our[OURS.get(name, name)]
        assert same.ndim == value.ndim and same.shape[0] == value.shape[0]
        assert same.is_floating_point() == value.is_floating_point()
    assert set(our) == set(ours()[1].model_input_names)


def test_rows_are_padded_on_the_left_by_both() -> None:
    def mask(model: Any, processor: Any) -> torch.Tensor:
        texts = [
            processor.apply_chat_template(one, add_generation_prompt=True, tokenize=False)
            for one in (chat(1.0)[-1:], chat(1.0, 0.6))
        ]
        sounds = [question(0.5), question(1.0), question(0.6), question(0.5)]
        batch = processor(text=texts, audio=sounds, return_tensors="pt", padding=True)
        return batch["attention_mask"]

    for found in both(mask):
        assert found[1].all() and not found[0, 0]
        assert bool((found[0].diff() >= 0).all())  # zeros, then ones


def test_each_placeholder_becomes_as_many_as_the_audio_has_positions() -> None:
    def counts(model: Any, processor: Any) -> list[bool]:
        text = processor.apply_chat_template(chat(1.0), tokenize=False)
        batch = processor(text=text, audio=[question(1.0), question(0.5)], return_tensors="pt")
        slots = int((batch["input_ids"] == processor.audio_token_id).sum())
        return [slots > 2, batch["input_features"].shape[0] == 2]

    assert both(counts) == ([True, True], [True, True])


@pytest.mark.parametrize("sounds", [2, 3])
def test_placeholders_and_recordings_must_be_equally_many(sounds: int) -> None:
    for _, processor in (theirs(), ours()):
        text = processor.apply_chat_template(chat(1.0)[-1:], tokenize=False)
        audio = [question(0.5)] * sounds
        with pytest.raises(ValueError, match=r"provided text|audio inputs|for \d recordings"):
            processor(text=[text], audio=audio, return_tensors="pt")


def test_generation_gives_the_prompt_and_the_reply_after_it() -> None:
    def reply(model: Any, processor: Any) -> Any:
        batch = processor.apply_chat_template(
            [chat(1.0), chat(0.4)], add_generation_prompt=True, tokenize=True, return_dict=True,
            return_tensors="pt", processor_kwargs={"padding": True},
        )  # fmt: skip
        ids = model.generate(**batch, max_new_tokens=LENGTH, min_new_tokens=LENGTH)
        width = batch["input_ids"].shape[1]
        assert ids[:, :width].tolist() == batch["input_ids"].tolist()
        return processor.batch_decode(ids[:, width:], skip_special_tokens=True), ids.shape[
            1
        ] - width

    their, our = both(reply)
    assert form(list(their)) == form(list(our))
    assert their[1] == our[1] == LENGTH


def test_hidden_states_of_each_step_have_the_same_form() -> None:
    def states(model: Any, processor: Any) -> Any:
        batch = processor.apply_chat_template(
            chat(1.0), add_generation_prompt=True, tokenize=True, return_dict=True,
            return_tensors="pt",
        )  # fmt: skip
        out = model.generate(
            **batch, max_new_tokens=LENGTH, min_new_tokens=LENGTH, output_hidden_states=True,
            return_dict_in_generate=True,
        )  # fmt: skip
        layers = model.config.text_config.num_hidden_layers + 1
        return [len(step) == layers and step[-1].ndim for step in out.hidden_states], type(out)

    their, our = both(states)
    assert their == our


@pytest.mark.parametrize(
    "settings", [{}, {"return_full_text": False}, {"return_tensors": True}, {"batched": True}]
)
def test_the_any_to_any_pipeline_answers_a_chat_in_the_same_form(settings: dict[str, Any]) -> None:
    pipes = [any_to_any(model=m, processor=p) for m, p in (theirs(), ours())]
    if None in pipes:
        return
    settings = dict(settings)
    asked: Any = [chat(1.0), chat(0.5)] if settings.pop("batched", False) else chat(1.0)
    their, our = (pipe(text=asked, max_new_tokens=LENGTH, **settings) for pipe in pipes)
    assert form(their) == form(our)


def test_the_any_to_any_pipeline_speaks(caplog: pytest.LogCaptureFixture) -> None:
    pipe = any_to_any(model=ours()[0], processor=ours()[1])
    if pipe is None:
        return
    assert "not supported" not in caplog.text
    (record,) = pipe(text=chat(1.0), generation_mode="audio", max_new_tokens=LENGTH)
    sound = record["generated_audio"]
    assert isinstance(sound, np.ndarray) and sound.dtype == np.float32 and sound.ndim == 1
    written = [{"role": "user", "content": "Tell me"}]
    both_rows = pipe(text=[written, chat(0.5)], generation_mode="audio", max_new_tokens=LENGTH)
    assert [set(row[0]) for row in both_rows] == [{"input_text", "generated_audio"}] * 2
