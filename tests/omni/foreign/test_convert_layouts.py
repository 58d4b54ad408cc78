"""A LLaMA-Omni on disk: every layout gives the same weights, and what is broken is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omni.files.folders import CheckpointError
from omni.foreign.llama_omni import read_llama_omni
from omni.foreign.whisper import read_whisper
from tests.logged import own_messages
from tests.published import ENCODER, checkpoint_copy, raw_bytes

torch.set_num_threads(1)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("inside", [False, True])
def test_every_layout_gives_the_same_weights(tmp_path, converted, shards, inside):
    source = checkpoint_copy(tmp_path / "source", shards=shards, encoder_inside=inside)
    read_llama_omni(source, whisper=None if inside else ENCODER).write(tmp_path / "target")
    for file in converted.rglob("*.safetensors"):
        name = file.relative_to(converted)
        if name.parts[0] != "vocoder":
            assert raw_bytes(tmp_path / "target" / name) == raw_bytes(file)


def test_the_encoder_is_found_where_config_json_says(tmp_path):
    source = checkpoint_copy(tmp_path / "source")
    with pytest.raises(CheckpointError, match=r"tiny-random-128mel\.pt.*--whisper FILE"):
        read_llama_omni(source)
    beside = tmp_path / "models" / "speech_encoder"
    beside.mkdir(parents=True)
    shutil.copy(ENCODER, beside / "tiny-random-128mel.pt")
    assert read_llama_omni(source).encoder.config.width == 64


def other_encoder(path: Path, *changed: str) -> Path:
    """The encoder's file with `changed` weights of its own."""
    content = torch.load(ENCODER, weights_only=True)
    for name in changed:
        content["model_state_dict"][f"encoder.{name}"] += 1
    torch.save(content, path)
    return path


def encoder_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "speech_encoder" / "model.safetensors")


def test_a_given_encoder_wins_over_the_one_inside_and_what_differs_is_counted(tmp_path, caplog):
    source = checkpoint_copy(tmp_path / "source", encoder_inside=True)
    other = other_encoder(tmp_path / "other.pt", "ln_post.weight", "blocks.1.mlp.0.bias")
    read_llama_omni(source, whisper=other).write(tmp_path / "target")
    (warning,) = own_messages(caplog)
    assert warning.startswith(
        f"{other}: 2 of {len(encoder_of(tmp_path / 'target'))} tensors differ"
    )
    assert "\n" not in warning
    read_whisper(other).write(tmp_path / "whisper")
    given = load_file(tmp_path / "whisper" / "model.safetensors")
    torch.testing.assert_close(encoder_of(tmp_path / "target"), given, atol=0, rtol=0)


def test_a_given_encoder_that_is_the_one_inside_needs_no_warning(tmp_path, caplog):
    source = checkpoint_copy(tmp_path / "source", encoder_inside=True)
    read_llama_omni(source, whisper=ENCODER)
    assert own_messages(caplog) == []


def test_without_a_given_file_the_encoder_inside_is_used_even_where_config_json_names_another(
    tmp_path, converted, caplog
):
    source = checkpoint_copy(tmp_path / "source", encoder_inside=True)
    named = source / json.loads((source / "config.json").read_text())["speech_encoder"]
    named.parent.mkdir(parents=True)
    other_encoder(named, "ln_post.weight")
    read_llama_omni(source).write(tmp_path / "target")
    torch.testing.assert_close(
        encoder_of(tmp_path / "target"), encoder_of(converted), atol=0, rtol=0
    )
    assert own_messages(caplog) == []


def test_an_encoder_inside_that_is_not_whole_is_named_and_a_given_file_takes_its_place(
    tmp_path, converted, caplog
):
    source = checkpoint_copy(tmp_path / "source", encoder_inside=True)
    tensors = load_file(source / "model.safetensors")
    del tensors["model.speech_encoder.blocks.1.mlp.0.bias"]
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing .*blocks\.1\.mlp\.0\.bias"):
        read_llama_omni(source)
    read_llama_omni(source, whisper=ENCODER).write(tmp_path / "target")
    torch.testing.assert_close(
        encoder_of(tmp_path / "target"), encoder_of(converted), atol=0, rtol=0
    )
    assert "1 of" in caplog.text


def broken(folder: Path, change) -> Path:
    """A copy whose tensors `change` has altered in place."""
    source = checkpoint_copy(folder)
    tensors = load_file(source / "model.safetensors")
    change(tensors)
    save_file(tensors, source / "model.safetensors")
    return source


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop("speech_generator.output_proj.bias"), "missing speech_generator.output"),
        (lambda t: t.update({"model.extra.weight": torch.zeros(1)}), "surplus model.extra.weight"),
        (
            lambda t: t.update({"model.speech_projector.linear1.bias": torch.zeros(7)}),
            r"model\.speech_projector\.linear1\.bias has shape \[7\]",
        ),
    ],
)
def test_wrong_weights_are_named(tmp_path, change, told):
    with pytest.raises(CheckpointError, match=told):
        read_llama_omni(broken(tmp_path / "source", change), whisper=ENCODER)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "llama"), ("speech_encoder_type", "hubert"), ("speech_normalize", True),
        ("speech_generator_type", "ar"), ("ctc_decoder_config", "(2,64)"),
        ("speech_encoder_hidden_size", 80),
    ],
)  # fmt: skip
def test_models_of_another_build_are_refused(tmp_path, key, value):
    source = checkpoint_copy(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(CheckpointError, match=key):
        read_llama_omni(source, whisper=ENCODER)


def test_a_missing_or_cut_shard_is_named(tmp_path):
    source = checkpoint_copy(tmp_path / "source", shards=3)
    shard = source / "model-00002-of-00003.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"00002-of-00003.*damaged"):
        read_llama_omni(source, whisper=ENCODER)
    shard.unlink()
    with pytest.raises(CheckpointError, match=r"00002-of-00003.*no such file"):
        read_llama_omni(source, whisper=ENCODER)
