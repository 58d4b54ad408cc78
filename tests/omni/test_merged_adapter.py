"""What only answers has its LLM's LoRA in its weights; what needs the base has it beside them."""

import re
from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model, inject_adapter_in_model
from typer.testing import CliRunner

from omni.commands.starting import start
from omni.language_model import is_lora, merge_adapter
from omni.loading import load
from tests.saving import heard, lora, shake
from tests.tiny import tiny_model, tiny_processor
from train.cli import app

torch.set_num_threads(1)
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
WRAPS: dict[str, dict] = {
    "all linear layers": {},
    "embeddings too": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "of other tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [1, 2]},
}


def adapted(folder: Path, **settings) -> Path:
    model = tiny_model()
    model.language_model = get_peft_model(model.language_model, lora(**settings))
    shake(model)
    model.save_pretrained(folder, processor=tiny_processor(model.config))
    return folder


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_command_that_answers_has_the_lora_merged_and_says_the_same(
    wrap: str, tmp_path: Path
) -> None:
    folder = adapted(tmp_path / "a", **WRAPS[wrap])
    apart, _ = load(folder)
    model, _ = start(folder)
    assert is_lora(apart.language_model) and not is_lora(model.language_model)
    assert type(model.language_model) is type(tiny_model().language_model)
    torch.testing.assert_close(heard(model), heard(apart), **CLOSE)


def test_a_command_that_asks_the_base_as_well_has_it_apart(tmp_path: Path) -> None:
    folder = adapted(tmp_path / "a")
    model, _ = start(folder, adapter_apart=True)
    assert is_lora(model.language_model)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "What is it?", "accept": ["oak"]}\n', "utf-8")
    result = CliRunner().invoke(app, ["kept", str(folder), "--prompts", str(prompts)])
    assert result.exit_code == 0, result.output
    assert re.search(r"all +1 prompts: base [0-9.]+%, now [0-9.]+%", result.output)


def test_adapters_that_are_not_lora_and_llms_without_stay_as_they_are() -> None:
    plain = tiny_model().language_model
    assert merge_adapter(plain) is plain
    tuned = get_peft_model(
        tiny_model().language_model,
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    )
    assert merge_adapter(tuned) is tuned
    inside = tiny_model().language_model
    inject_adapter_in_model(lora(), inside)
    assert merge_adapter(inside) is inside and is_lora(inside)


def test_packed_weights_are_not_rounded_anew() -> None:
    model = tiny_model().language_model
    model.hf_quantizer = object()
    wrapped = get_peft_model(model, lora())
    assert merge_adapter(wrapped) is wrapped
