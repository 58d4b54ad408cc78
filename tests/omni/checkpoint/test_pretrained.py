"""A checkpoint folder gives back the model that wrote it, or says in one line why it cannot."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omni.files.folders import CheckpointError
from omni.language_model import add_lora, is_lora
from omni.loading import load
from omni.model import OmniForConditionalGeneration
from omni.session.config import SessionConfig
from omni.session.session import SpeechSession
from omni.speech_encoder import save_speech_encoder
from tests.tiny import question, tiny_model, tiny_processor

torch.set_num_threads(1)


@torch.no_grad()
def logits(model: OmniForConditionalGeneration) -> torch.Tensor:
    return model(**tiny_processor()(audio=question())).logits


def assert_same_weights(
    one: OmniForConditionalGeneration, other: OmniForConditionalGeneration
) -> None:
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), atol=0, rtol=0)


def saved(tmp_path: Path, **kwargs) -> tuple[OmniForConditionalGeneration, Path]:
    model = tiny_model()
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder, self_contained=True, processor=tiny_processor(), **kwargs)
    return model, folder


def with_bases(tmp_path: Path) -> OmniForConditionalGeneration:
    """A model whose bases lie in folders of their own."""
    model = tiny_model()
    save_speech_encoder(model.speech_encoder, tmp_path / "encoder", dtype=torch.float32)
    model.language_model.save_pretrained(tmp_path / "llm")
    model.config.bases = {
        "speech_encoder": str(tmp_path / "encoder"),
        "language_model": str(tmp_path / "llm"),
    }
    return model


@pytest.mark.parametrize("vocoder", ["nsf", "hifigan", None])
def test_a_self_contained_checkpoint_gives_back_every_weight(
    vocoder: str | None, tmp_path: Path
) -> None:
    model = tiny_model(vocoder=vocoder)
    model.save_pretrained(tmp_path / "a", self_contained=True)
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "a")
    assert_same_weights(model, again)
    torch.testing.assert_close(logits(again), logits(model))
    assert not again.training
    assert again.config.bases == {}


def test_a_loaded_checkpoint_says_what_the_saved_model_said(tmp_path: Path) -> None:
    model, folder = saved(tmp_path)
    again, processor = load(folder)
    config = SessionConfig(max_new_tokens=8)
    one = list(SpeechSession(model, tiny_processor(), config).ask(question()))[-1]
    two = list(SpeechSession(again, processor, config).ask(question()))[-1]
    assert (one.token_ids, one.units, one.text) == (two.token_ids, two.units, two.text)  # type: ignore[union-attr]


def test_frozen_bases_are_named_and_not_copied(tmp_path: Path) -> None:
    model = with_bases(tmp_path)
    model.save_pretrained(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "README.md", "config.json", "generation_config.json", "speech_adapter.safetensors",
        "unit_decoder.safetensors", "vocoder",
    ]  # fmt: skip
    assert_same_weights(model, OmniForConditionalGeneration.from_pretrained(tmp_path / "a"))


def test_a_trained_language_model_comes_along_though_its_base_has_a_name(tmp_path: Path) -> None:
    model = with_bases(tmp_path)
    with torch.no_grad():
        model.language_model.lm_head.weight.add_(1.0)
    model.save_pretrained(tmp_path / "a")
    assert (tmp_path / "a" / "language_model").is_dir()
    assert not (tmp_path / "a" / "speech_encoder").exists()
    assert_same_weights(model, OmniForConditionalGeneration.from_pretrained(tmp_path / "a"))


def test_the_configuration_holds_no_path_but_the_named_bases(tmp_path: Path) -> None:
    with_bases(tmp_path).save_pretrained(tmp_path / "a")
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "a")
    again.save_pretrained(tmp_path / "b", self_contained=True)
    for file in (tmp_path / "b").rglob("*.json"):
        assert str(tmp_path) not in file.read_text(), file


def lora_model(tmp_path: Path) -> OmniForConditionalGeneration:
    model = with_bases(tmp_path)
    model.language_model = add_lora(model.language_model, rank=2, alpha=4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def test_lora_is_saved_alone_and_found_on_its_base_again(tmp_path: Path) -> None:
    model = lora_model(tmp_path)
    model.save_pretrained(tmp_path / "a")
    stored = load_file(tmp_path / "a" / "language_model" / "adapter_model.safetensors")
    assert stored and all("lora_" in name for name in stored)
    (tmp_path / "llm").rename(tmp_path / "moved")  # config.json knows; the LoRA folder does not
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    config["bases"]["language_model"] = str(tmp_path / "moved")
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "a")
    assert is_lora(again.language_model)
    assert_same_weights(model, again)
    torch.testing.assert_close(logits(again), logits(model))


def test_lora_is_merged_into_a_self_contained_checkpoint_and_stays_apart_in_the_model(
    tmp_path: Path,
) -> None:
    model = lora_model(tmp_path)
    model.save_pretrained(tmp_path / "a", self_contained=True)
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "a")
    assert not is_lora(again.language_model)
    assert is_lora(model.language_model)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-4, rtol=1e-4)


def test_lora_on_an_llm_without_a_name_brings_that_llm_along(tmp_path: Path) -> None:
    model = lora_model(tmp_path)
    del model.config.bases["language_model"]
    model.save_pretrained(tmp_path / "a")
    (tmp_path / "llm").rename(tmp_path / "moved")
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "a")
    assert is_lora(again.language_model)
    assert_same_weights(model, again)
    torch.testing.assert_close(logits(again), logits(model))


def test_fp16_storage_loads_as_float32_on_a_cpu(tmp_path: Path) -> None:
    model, folder = saved(tmp_path, dtype=torch.float16)
    files = [file for file in folder.rglob("*.safetensors")]
    assert len(files) == 5
    for file in files:
        assert {value.dtype for value in load_file(file).values()} == {torch.float16}, file
    again = OmniForConditionalGeneration.from_pretrained(folder)
    assert {value.dtype for value in again.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(again), logits(model), atol=0.05, rtol=0.05)


def test_another_dtype_is_taken_by_every_stage_but_the_vocoder(tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    again = OmniForConditionalGeneration.from_pretrained(folder, dtype="bfloat16")
    assert again.unit_decoder is not None and again.vocoder is not None
    for stage in (
        again.speech_encoder,
        again.speech_adapter,
        again.language_model,
        again.unit_decoder,
    ):
        assert {value.dtype for value in stage.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in again.vocoder.parameters()} == {torch.float32}
    done = list(SpeechSession(again, tiny_processor(), SessionConfig(max_new_tokens=6)).ask("Hi"))
    assert done[-1].units  # type: ignore[union-attr]


def test_weights_that_a_trainer_has_gathered_are_written_instead_of_the_models(
    tmp_path: Path,
) -> None:
    model, other = tiny_model(), tiny_model(seed=1)
    model.save_pretrained(tmp_path / "a", state_dict=other.state_dict())
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "a")
    for stage in ("speech_adapter", "unit_decoder", "language_model"):
        torch.testing.assert_close(
            dict(getattr(again, stage).state_dict()), dict(getattr(other, stage).state_dict())
        )


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "a", is_main_process=False)
    assert not (tmp_path / "a").exists()


def test_saving_again_replaces_the_model_and_keeps_what_lies_beside_it(tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    (folder / "units").mkdir()
    (folder / "units" / "config.json").write_text("{}")
    other = tiny_model(seed=1, vocoder=None)
    other.save_pretrained(folder)
    assert (folder / "units" / "config.json").read_text() == "{}"
    assert (folder / "tokenizer.json").is_file()
    assert not (folder / "vocoder").exists()
    assert_same_weights(other, load(folder)[0])


def test_a_model_saved_into_its_processors_folder_keeps_the_tokenizer(tmp_path: Path) -> None:
    tiny_processor().save_pretrained(tmp_path / "a")
    tiny_model().save_pretrained(tmp_path / "a")
    load(tmp_path / "a")


def test_units_and_model_card_are_carried_along(tmp_path: Path) -> None:
    (tmp_path / "from" / "units").mkdir(parents=True)
    (tmp_path / "from" / "units" / "config.json").write_text("{}")
    (tmp_path / "from" / "README.md").write_text("a card")
    tiny_model().save_pretrained(tmp_path / "a", carry=tmp_path / "from")
    assert (tmp_path / "a" / "README.md").read_text() == "a card"
    assert (tmp_path / "a" / "units" / "config.json").is_file()


@pytest.mark.parametrize("name", ["notes.txt", "config.json"])
def test_a_folder_of_something_else_is_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(CheckpointError, match=r"not empty and no omni checkpoint"):
        tiny_model().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_generation_settings_come_along(tmp_path: Path) -> None:
    model = tiny_model()
    assert model.generation_config is not None
    model.generation_config.eos_token_id = [4, 7]
    model.generation_config.chunk_schedule = "10,40"
    model.save_pretrained(tmp_path / "a")
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "a").generation_config
    assert again is not None
    assert (again.eos_token_id, again.chunk_schedule) == ([4, 7], "10,40")


def edit_tensors(file: Path, change: Callable[[dict], object]) -> None:
    state = load_file(file)
    change(state)
    save_file(state, file, metadata={"format": "pt"})


WRONG = {
    "missing": lambda state: state.pop(sorted(state)[0]),
    "surplus|unexpected": lambda state: state.update(extra=torch.ones(1)),
    "has shape|mismatched|must be": lambda state: state.update(
        {sorted(state)[-1]: torch.ones(1, 2, 3, 4)}
    ),
}


@pytest.mark.parametrize(
    "file",
    [
        "speech_adapter.safetensors", "unit_decoder.safetensors",
        "language_model/model.safetensors", "speech_encoder/model.safetensors",
        "vocoder/model.safetensors",
    ],
)  # fmt: skip
@pytest.mark.parametrize("wrong", WRONG)
def test_a_weight_that_does_not_fit_is_told_in_one_line(
    wrong: str, file: str, tmp_path: Path
) -> None:
    _, folder = saved(tmp_path)
    edit_tensors(folder / file, WRONG[wrong])
    with pytest.raises(ValueError, match=wrong) as error:
        OmniForConditionalGeneration.from_pretrained(folder)
    assert "\n" not in str(error.value)
    assert file.split("/")[0] in str(error.value)


@pytest.mark.parametrize("file", ["speech_adapter.safetensors", "unit_decoder.safetensors"])
def test_a_missing_file_is_named(file: str, tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=rf"{file}: no such file"):
        OmniForConditionalGeneration.from_pretrained(folder)


def test_a_missing_folder_and_a_folder_that_is_no_checkpoint_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone: no such file or folder"):
        load(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        load(tmp_path)
    tiny_model().language_model.save_pretrained(tmp_path / "llm")
    with pytest.raises(CheckpointError, match=r"model_type is 'llama', must be 'omni'"):
        load(tmp_path / "llm")


def test_an_unknown_key_of_config_json_is_named(tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"speech_adaptor": {}}))
    with pytest.raises(CheckpointError, match=r"unknown key 'speech_adaptor'"):
        load(folder)


def test_a_base_that_is_neither_carried_nor_named_is_missed(tmp_path: Path) -> None:
    model = with_bases(tmp_path)
    model.save_pretrained(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    del config["bases"]["speech_encoder"]
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"has no speech_encoder/ and config.json names no"):
        OmniForConditionalGeneration.from_pretrained(tmp_path / "a")


def test_another_base_than_the_trained_one_is_refused(tmp_path: Path) -> None:
    model = with_bases(tmp_path)
    model.save_pretrained(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    config["audio_config"]["num_mel_bins"] = 80
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"log-mel bins of the base is 20.*says 80"):
        OmniForConditionalGeneration.from_pretrained(tmp_path / "a")
