"""Whatever was trained is in the saved folder, and a base that was not stays a name."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from omni.checkpoint.touched import touched
from omni.files.folders import read_json
from omni.loading import NANO, load
from tests.saving import PARTS, assert_same, read, train_by_hand
from tests.tiny import tiny_model

torch.set_num_threads(1)


@pytest.fixture(params=["stage1", "stage2", "carried", "nano"])
def source(request) -> Path:
    return NANO if request.param == "nano" else request.getfixturevalue(request.param)


def test_a_checkpoint_read_and_saved_is_the_same_checkpoint(source: Path, tmp_path: Path) -> None:
    read(source).save_pretrained(tmp_path / "a")
    again, processor = load(tmp_path / "a")
    assert_same(again, read(source))
    assert processor.tokenizer.get_vocab() == load(source)[1].tokenizer.get_vocab()
    assert (tmp_path / "a" / "units").is_dir() == (source / "units").is_dir()
    for name in ("speech_encoder", "language_model"):  # untouched: still a name
        assert (tmp_path / "a" / name).is_dir() == (source / name).is_dir()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_the_user_has_trained_is_saved(source: Path, part: str, tmp_path: Path) -> None:
    model = read(source)
    if getattr(model, part) is None:
        assert source.name == "checkpoint" and part in ("unit_decoder", "vocoder")
        return
    train_by_hand(getattr(model, part))
    model.save_pretrained(tmp_path / "a")
    again = read(tmp_path / "a")
    assert_same(again, model)
    with pytest.raises(AssertionError):
        assert_same(again, read(source))


def test_saved_twice_and_over_itself_it_stays_the_same(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "a")
    for _ in range(2):
        model = read(tmp_path / "a")
        train_by_hand(model.language_model)
        train_by_hand(model.speech_encoder)
        model.save_pretrained(tmp_path / "a")
        assert_same(load(tmp_path / "a")[0], model)
        model.save_pretrained(tmp_path / "a")
        assert_same(load(tmp_path / "a")[0], model)


def test_a_self_contained_copy_needs_no_base(stage2: Path, tmp_path: Path) -> None:
    model = read(stage2)
    model.save_pretrained(tmp_path / "a", self_contained=True)
    assert read_json(tmp_path / "a" / "config.json")["bases"] == {}
    assert_same(read(tmp_path / "a"), model)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_base_in_another_precision_is_still_its_base(
    stage1: Path, dtype: str, tmp_path: Path
) -> None:
    model = read(stage1, dtype=dtype)
    model.save_pretrained(tmp_path / "a")
    model.float().save_pretrained(tmp_path / "b")  # what was rounded stays rounded
    read(stage1).to(torch.bfloat16).save_pretrained(tmp_path / "c")
    for name in "abc":
        assert not (tmp_path / name / "language_model").exists()
        assert not (tmp_path / name / "speech_encoder").exists()


def test_a_base_that_cannot_be_read_any_more_is_carried_and_told(
    stage1: Path, tmp_path: Path, caplog
) -> None:
    model = read(stage1)
    model.config.bases = {name: str(tmp_path / "gone" / name) for name in model.config.bases}
    model.save_pretrained(tmp_path / "a")
    assert "language_model is saved whole" in caplog.text
    assert "speech_encoder is saved whole" in caplog.text
    assert_same(read(tmp_path / "a"), model)


def test_a_base_that_has_changed_on_disk_is_carried(stage1: Path, tmp_path: Path) -> None:
    shutil.copytree(stage1.parent, tmp_path / "all")
    model = read(stage1)
    model.config.bases["language_model"] = str(tmp_path / "all" / "llm")
    other = tiny_model(seed=3)
    other.language_model.save_pretrained(tmp_path / "all" / "llm")
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_a_base_inside_the_folder_that_is_replaced_is_carried(
    carried: Path, tmp_path: Path
) -> None:
    shutil.copytree(carried, tmp_path / "a")
    model = read(tmp_path / "a")
    model.config.bases = {"language_model": str(tmp_path / "a" / "language_model")}
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_grown_embeddings_are_saved(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    model.language_model.resize_token_embeddings(model.config.text_config.vocab_size + 8)
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_an_untied_output_layer_is_saved(tmp_path: Path) -> None:
    model = read(NANO)
    assert model.config.text_config.tie_word_embeddings
    model.language_model.save_pretrained(tmp_path / "llm")
    model.config.bases = {"language_model": str(tmp_path / "llm")}
    model.save_pretrained(tmp_path / "tied")
    assert not (tmp_path / "tied" / "language_model").exists()
    llm = model.language_model
    llm.lm_head.weight = nn.Parameter(llm.lm_head.weight + 1)
    llm.config.tie_word_embeddings = False
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_offloaded_weights_count_as_their_base(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    state = {
        name: value.to("meta") if name.startswith("language_model.model.layers") else value
        for name, value in model.state_dict().items()
    }
    model.save_pretrained(tmp_path / "a", state_dict=state)
    assert not (tmp_path / "a" / "language_model").exists()
    assert_same(read(tmp_path / "a"), model)


def test_packed_weights_of_a_quantised_llm_count_as_its_base_and_the_others_are_compared(
    stage1: Path,
) -> None:
    model = read(stage1)
    llm, base = model.language_model, model.config.bases["language_model"]
    packed = dict(llm.state_dict())
    packed["model.layers.0.mlp.up_proj.weight"] = torch.zeros(7, dtype=torch.uint8)
    packed["model.layers.0.mlp.up_proj.weight.absmax"] = torch.ones(3)
    assert touched("language_model", base, llm, packed)
    llm.hf_quantizer = object()
    assert not touched("language_model", base, llm, packed)
    packed["model.norm.weight"] = packed["model.norm.weight"] + 1
    assert touched("language_model", base, llm, packed)


def test_a_base_in_pickles_is_compared_as_well(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    model.language_model.config.save_pretrained(tmp_path / "llm")
    torch.save(model.language_model.state_dict(), tmp_path / "llm" / "pytorch_model.bin")
    model.config.bases["language_model"] = str(tmp_path / "llm")
    model.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a" / "language_model").exists()
    train_by_hand(model.language_model)
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)
