"""Adapters of peft are saved with whatever else was trained, and come back."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model, inject_adapter_in_model
from torch import nn

from omni.files.folders import CheckpointError
from omni.language_model import is_lora
from tests.saving import assert_same, heard, lora, read, shake, train_by_hand

torch.set_num_threads(1)
WRAPS: dict[str, dict] = {
    "all linear layers": {},
    "embeddings too": {
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens", "lm_head"],
    },
    "of the embeddings": {"target_modules": ["embed_tokens", "v_proj"]},
    "of singular values": {"target_modules": ["q_proj"], "init_lora_weights": "pissa"},
    "of other tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [1, 2]},
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", ["default", "mine"])
@pytest.mark.parametrize("origin", ["stage1", "carried"])
def test_an_adapter_of_peft_comes_back(
    wrap: str, name: str, origin: str, tmp_path: Path, request
) -> None:
    model = read(request.getfixturevalue(origin))
    model.language_model = get_peft_model(
        model.language_model, lora(**WRAPS[wrap]), adapter_name=name
    )
    shake(model)
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name or "trainable_tokens_delta" in name:
            nn.init.normal_(parameter, std=0.1)
    said = heard(model)
    model.save_pretrained(tmp_path / "a")
    again = read(tmp_path / "a")
    assert is_lora(again.language_model)
    torch.testing.assert_close(heard(again), said)
    again.save_pretrained(tmp_path / "b")
    torch.testing.assert_close(heard(read(tmp_path / "b")), said)


def test_an_adapter_on_a_named_base_is_saved_alone_and_peft_reads_it(
    stage1: Path, tmp_path: Path
) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora())
    shake(model)
    model.save_pretrained(tmp_path / "a")
    folder = tmp_path / "a" / "language_model"
    assert sorted(file.name for file in folder.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    other = read(stage1)
    other.language_model = PeftModel.from_pretrained(other.language_model, str(folder))
    torch.testing.assert_close(heard(other), heard(model))
    other.save_pretrained(tmp_path / "b")
    assert_same(read(tmp_path / "b"), model)


def test_a_base_that_was_trained_below_its_adapter_is_saved_with_it(
    stage1: Path, tmp_path: Path
) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora())
    shake(model)
    train_by_hand(model.language_model.get_base_model().model.layers[0].self_attn.q_proj.base_layer)
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_merged_weights_are_saved_whole(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora())
    shake(model)
    said = heard(model)
    model.language_model = model.language_model.merge_and_unload()
    model.save_pretrained(tmp_path / "a")
    again = read(tmp_path / "a")
    assert not is_lora(again.language_model)
    assert_same(again, model)
    torch.testing.assert_close(heard(again), said, atol=1e-4, rtol=1e-4)


def test_an_adapter_taken_off_again_leaves_the_base_a_name(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora()).unload()
    model.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a" / "language_model").exists()


@pytest.mark.parametrize("origin", ["stage1", "carried"])
def test_an_adapter_added_without_a_wrapper_comes_back(
    origin: str, tmp_path: Path, request
) -> None:
    """As transformers' add_adapter does, which wants a newer peft than its other parts."""
    model = read(request.getfixturevalue(origin))
    inject_adapter_in_model(lora(), model.language_model)
    model.language_model._hf_peft_config_loaded = True
    shake(model)
    model.save_pretrained(tmp_path / "a")
    torch.testing.assert_close(heard(read(tmp_path / "a")), heard(model))
    with pytest.raises(CheckpointError, match=r"can't be merged; .*get_peft_model"):
        model.save_pretrained(tmp_path / "b", self_contained=True)


def test_two_adapters_are_refused_by_name(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora())
    model.language_model.add_adapter("second", lora())
    with pytest.raises(CheckpointError, match=r"adapters default, second, .*holds one; merge"):
        model.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_lora_merged_for_a_self_contained_copy_takes_gathered_weights_and_a_dtype(
    stage1: Path, tmp_path: Path
) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora())
    gathered = {name: value.clone() for name, value in model.state_dict().items()}
    shake(model)
    expected = heard(model)
    gathered |= {name: value for name, value in model.state_dict().items() if "lora_" in name}
    model.save_pretrained(
        tmp_path / "a", state_dict=gathered, self_contained=True, dtype=torch.bfloat16
    )
    assert read(tmp_path / "a", dtype="auto").language_model.dtype == torch.bfloat16
    torch.testing.assert_close(heard(read(tmp_path / "a")), expected, atol=0.1, rtol=0.1)
