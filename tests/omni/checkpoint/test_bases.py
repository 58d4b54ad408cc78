"""Bases are found by file, folder or name, and read only if they are what they should be."""

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from omni.checkpoint.bases import load_language_model, load_speech_encoder, load_tokenizer
from omni.files.folders import CheckpointError
from omni.files.hub import fetch
from omni.language_model import add_lora, is_lora
from tests.paths import DATA
from tests.tiny import tiny_bases, tiny_config

OPENAI = DATA / "llama_omni" / "encoder.pt"


def small_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(9)[None]).logits


def test_an_openai_file_gives_an_encoder_of_its_size() -> None:
    encoder = load_speech_encoder(str(OPENAI))
    assert (encoder.width, encoder.config.max_frames, len(encoder.layers)) == (64, 1500, 2)
    assert encoder.config.n_mels == 128
    stored = torch.load(OPENAI, weights_only=True)["model_state_dict"]
    torch.testing.assert_close(
        encoder.layers[1].fc1.weight, stored["encoder.blocks.1.mlp.0.weight"].float()
    )


def test_the_encoder_is_found_in_a_whole_whisper(tmp_path: Path) -> None:
    config = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, num_mel_bins=8,
        max_source_positions=20, vocab_size=60, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        decoder_start_token_id=0,
    )  # fmt: skip
    whisper = WhisperForConditionalGeneration(config)
    whisper.save_pretrained(tmp_path)
    encoder = load_speech_encoder(str(tmp_path))
    torch.testing.assert_close(encoder.conv1.weight, whisper.model.encoder.conv1.weight)


def test_another_kind_of_model_is_no_speech_encoder(tmp_path: Path) -> None:
    small_llama().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"model_type is 'llama', a Whisper encoder"):
        load_speech_encoder(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a pickle"])
def test_a_file_that_is_no_openai_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt: .*(damaged|no openai)"):
        load_speech_encoder(str(tmp_path / "a.pt"))


@pytest.mark.parametrize("source", ["./gone", "/gone/away", "a/b/c", "gone"])
def test_what_is_neither_folder_nor_hub_id_is_named(source: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{source}: no such file or folder"):
        fetch(source)


def test_a_language_model_reads_back(tmp_path: Path) -> None:
    small_llama().save_pretrained(tmp_path)
    again = load_language_model(str(tmp_path), dtype=torch.float32)
    torch.testing.assert_close(logits(again), logits(small_llama()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.norm.weight"), "missing weight model.norm.weight"),
        (lambda s: s.update(extra=torch.ones(1)), "unexpected weight extra"),
        (lambda s: s.update({"model.norm.weight": torch.ones(3)}), "mismatched weight .*norm"),
    ],
)
def test_a_language_model_that_does_not_fit_is_refused(
    change, message: str, tmp_path: Path
) -> None:
    small_llama().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message) as error:
        load_language_model(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    small_llama().config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"not readable"):
        load_language_model(str(tmp_path))
    tiny_config().audio_config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"no \.safetensors file"):
        load_speech_encoder(str(tmp_path))


def test_lora_weights_find_their_base_by_the_given_name(tmp_path: Path) -> None:
    small_llama().save_pretrained(tmp_path / "base")
    model = add_lora(small_llama(), rank=2, alpha=4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    again = load_language_model(str(tmp_path / "lora"), base=str(tmp_path / "base"))
    assert is_lora(again)
    torch.testing.assert_close(logits(again.eval()), logits(model.eval()))

    state = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    state.popitem()
    save_file(state, tmp_path / "lora" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"adapter_model.safetensors: missing"):
        load_language_model(str(tmp_path / "lora"), base=str(tmp_path / "base"))


def test_lora_weights_are_put_on_without_a_warning(tmp_path: Path) -> None:
    small_llama().save_pretrained(tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        made = add_lora(small_llama(), rank=2, alpha=4)
        made.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
        load_language_model(str(tmp_path / "lora"), base=str(tmp_path / "base"))


def test_lora_weights_without_a_base_are_refused(tmp_path: Path) -> None:
    add_lora(small_llama(), rank=2, alpha=4).save_pretrained(tmp_path, save_embedding_layers=False)
    with pytest.raises(CheckpointError, match=r"without the name of their base"):
        load_language_model(str(tmp_path))


def test_the_language_model_of_a_checkpoint_finds_its_tokenizer_one_folder_up(tmp_path: Path):
    _, language_model = tiny_bases(tmp_path)
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "language_model").mkdir(parents=True)
    load_tokenizer(language_model).save_pretrained(checkpoint)
    inner = load_tokenizer(str(checkpoint / "language_model"))
    assert inner.get_vocab() == load_tokenizer(language_model).get_vocab()


def test_a_folder_without_a_language_model_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no tokenizer of a language model .*; give the"):
        load_tokenizer(str(tmp_path))
