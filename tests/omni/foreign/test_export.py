"""LLaMA-Omni's format and back: nothing changes on the way."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from omni.files.folders import CheckpointError
from omni.foreign.export import read_export
from omni.foreign.llama_omni import read_llama_omni
from omni.unit_decoder import UnitDecoder, UnitDecoderConfig
from tests.published import CHECKPOINT, ENCODER, checkpoint_copy, raw_bytes

# Of the original's config.json, what no reader of it needs.
UNUSED = {
    "pretraining_tp", "freeze_speech_projector", "tune_speech_projector", "speech_projector_lr",
    "transformers_version",
}  # fmt: skip


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "checkpoint"
    read_llama_omni(CHECKPOINT, whisper=ENCODER).write(folder)
    return folder


def test_there_and_back_every_tensor_is_equal_to_the_byte(tmp_path, converted):
    read_export(converted).write(tmp_path / "back")
    assert raw_bytes(tmp_path / "back" / "model.safetensors") == raw_bytes(
        CHECKPOINT / "model.safetensors"
    )


def test_an_encoder_inside_comes_back_inside(tmp_path):
    source = checkpoint_copy(tmp_path / "source", encoder_inside=True)
    read_llama_omni(source).write(tmp_path / "ours")
    read_export(tmp_path / "ours", encoder_inside=True).write(tmp_path / "back")
    assert raw_bytes(tmp_path / "back" / "model.safetensors") == raw_bytes(
        source / "model.safetensors"
    )


def test_back_again_the_settings_are_the_same(tmp_path, converted):
    named = "models/speech_encoder/tiny-random-128mel.pt"
    read_export(converted, encoder_file=named).write(tmp_path / "back")
    ours = json.loads((tmp_path / "back" / "config.json").read_text())
    original = json.loads((CHECKPOINT / "config.json").read_text())
    assert ours == {key: value for key, value in original.items() if key not in UNUSED}


def test_back_again_the_tokenizer_gives_the_same_ids(tmp_path, converted):
    read_export(converted).write(tmp_path / "back")
    ours = PreTrainedTokenizerFast.from_pretrained(tmp_path / "back")
    original = PreTrainedTokenizerFast.from_pretrained(CHECKPOINT)
    text = "Please answer, assistant:\n\n42 <|eot_id|> <speech> ü"
    assert ours(text)["input_ids"] == original(text)["input_ids"]
    written = json.loads((tmp_path / "back" / "tokenizer.json").read_text())
    original = json.loads((CHECKPOINT / "tokenizer.json").read_text())
    assert written["added_tokens"] == original["added_tokens"]
    assert written["model"] == original["model"]


def test_an_exported_checkpoint_converts_to_the_same_checkpoint(tmp_path, converted):
    read_export(converted).write(tmp_path / "back")
    read_llama_omni(tmp_path / "back", whisper=ENCODER).write(tmp_path / "again")
    for file in converted.rglob("*.safetensors"):
        assert raw_bytes(file) == raw_bytes(tmp_path / "again" / file.relative_to(converted))
    for name in ("config.json", "generation_config.json", "chat_template.jinja"):
        assert (converted / name).read_text() == (tmp_path / "again" / name).read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["unit_decoder"].update(rope_theta=1.0), "one setting for both"),
        (lambda c: c["speech_adapter"].update(hidden=64), "missing|shape"),
        (lambda c: c["speech_adapter"].update(vocabulary=9), "missing|has no mixture of tokens"),
        (lambda c: c["text_config"].update(model_type="mistral"), "missing|only llama"),
    ],
)
def test_what_the_format_cannot_say_is_refused(tmp_path, converted, change, told):
    read_llama_omni(CHECKPOINT, whisper=ENCODER).write(tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    change(config)
    (tmp_path / "ours" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=told):
        read_export(tmp_path / "ours")


@pytest.mark.parametrize("more", ["gate_fusion", "step_embedding", "spelling"])
def test_a_unit_decoder_with_more_than_the_formats_own_is_refused(tmp_path, more):
    folder = tmp_path / "ours"
    read_llama_omni(CHECKPOINT, whisper=ENCODER).write(folder)
    config = json.loads((folder / "config.json").read_text())
    config["unit_decoder"] |= {more: True, "vocabulary": 9 if more == "spelling" else 0}
    (folder / "config.json").write_text(json.dumps(config))
    decoder = UnitDecoder(UnitDecoderConfig(**config["unit_decoder"]))
    save_file(decoder.state_dict(), folder / "unit_decoder.safetensors")
    with pytest.raises(
        CheckpointError, match=f"unit decoder with {more}: .* train stage 2 without"
    ):
        read_export(folder)


def test_a_checkpoint_on_a_named_base_is_told_to_be_saved_whole(tmp_path, converted):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text((converted / "config.json").read_text())
    with pytest.raises(CheckpointError, match="self_contained=True"):
        read_export(tmp_path / "bare")
