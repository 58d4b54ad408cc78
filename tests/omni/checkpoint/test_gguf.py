"""A GGUF file is a causal LM like any other: read, trained on, named as a base, saved."""

from pathlib import Path

import pytest
import torch

from omni.checkpoint.bases import base_config, load_language_model, load_tokenizer
from omni.checkpoint.named import base_digest
from omni.files.folders import CheckpointError, read_json
from omni.loading import load
from omni.speech_encoder import save_speech_encoder
from tests.foreign_bases import write_gguf
from tests.tiny import tiny_model, tiny_processor, tiny_tokenizer

torch.set_num_threads(1)
QUESTION = [{"role": "user", "content": "What is two and two?"}]


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(20)[None]).logits


@pytest.fixture(scope="module")
def llm():
    return tiny_model(vocoder=None).language_model


@pytest.mark.parametrize(("kind", "error"), [("F32", 1e-5), ("F16", 0.05), ("Q8_0", 0.5)])
def test_a_gguf_file_gives_the_model_that_was_converted(
    kind: str, error: float, llm, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "model.gguf", llm, tiny_tokenizer(), kind)
    read = load_language_model(str(path))
    assert read.dtype == torch.float32
    spread = logits(llm).std()
    torch.testing.assert_close(logits(read), logits(llm), atol=float(error * spread), rtol=0)


def test_its_tokenizer_writes_the_same_prompt(llm, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llm, tiny_tokenizer())
    read, wanted = load_tokenizer(str(path)), tiny_tokenizer()
    prompts = [
        tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=True)
        for tokenizer in (read, wanted)
    ]
    assert prompts[0]["input_ids"] == prompts[1]["input_ids"]
    assert (read.eos_token, read.pad_token) == (wanted.eos_token, wanted.eos_token)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_takes_another_type_and_is_saved(dtype: torch.dtype, llm, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llm, tiny_tokenizer(), "Q4_1")
    read = load_language_model(str(path), dtype=dtype)
    assert read.dtype == dtype and not hasattr(read.config, "quantization_config")
    read.save_pretrained(tmp_path / "saved")
    assert "quantization_config" not in read_json(tmp_path / "saved" / "config.json")
    again = load_language_model(str(tmp_path / "saved"), dtype=dtype)
    assert torch.equal(logits(again), logits(read))
    assert again.generation_config.pad_token_id == tiny_tokenizer().eos_token_id


def test_it_may_be_spread_over_devices(llm, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llm, tiny_tokenizer())
    read = load_language_model(str(path), device_map="cpu", attn_implementation="eager")
    torch.testing.assert_close(logits(read), logits(llm))
    assert read.config._attn_implementation == "eager"


def test_its_sizes_are_told_without_its_weights(llm, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llm, tiny_tokenizer())
    assert base_config(str(path)).hidden_size == llm.config.hidden_size


def test_a_checkpoint_names_it_as_a_base_and_is_read_and_saved_again(llm, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llm, tiny_tokenizer(), "Q4_1")
    model = tiny_model(vocoder=None)
    save_speech_encoder(model.speech_encoder, tmp_path / "encoder", dtype=None)
    model.language_model = load_language_model(str(path))
    model.config.bases = {
        "speech_encoder": str(tmp_path / "encoder"), "language_model": str(path),
    }  # fmt: skip
    model.save_pretrained(tmp_path / "a", processor=tiny_processor(model.config))
    assert not (tmp_path / "a" / "language_model").exists()
    again, processor = load(tmp_path / "a")
    assert torch.equal(logits(again.language_model), logits(model.language_model))
    again.save_pretrained(tmp_path / "b", processor=processor, self_contained=True)
    carried, _ = load(tmp_path / "b")
    assert torch.equal(logits(carried.language_model), logits(model.language_model))


def test_its_digest_is_that_of_its_weights_in_a_folder(llm, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llm, tiny_tokenizer(), "Q4_1")
    load_language_model(str(path), dtype=torch.float16).save_pretrained(tmp_path / "folder")
    digests = [base_digest("language_model", str(p)) for p in (path, tmp_path / "folder")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("length", [0, 100, 5000])
def test_a_file_that_is_cut_short_is_told_in_one_line(length: int, llm, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llm, tiny_tokenizer())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="not readable as GGUF") as error:
        load_language_model(str(path))
    assert "\n" not in str(error.value)


def test_without_the_package_its_extra_is_named(llm, tmp_path: Path, monkeypatch) -> None:
    path = write_gguf(tmp_path / "model.gguf", llm, tiny_tokenizer())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"gguf: not installed.*omni-speech\[mini\]"):
        load_language_model(str(path))
