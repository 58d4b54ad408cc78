"""An encoder that was adapted by LoRA: the base stays what it was, and the LoRA is kept apart."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from omni.about import describe
from omni.audio import load_audio, save_wav
from omni.checkpoint import base_digest, load_speech_encoder, load_units
from omni.cli import app
from omni.encoder_lora import EncoderLora, lora_config, lora_of, merge_lora, wrap_encoder
from omni.files import CheckpointError, UserError, file_digest
from omni.live_speech import LiveSpeech
from omni.model import OmniForConditionalGeneration
from omni.speech_encoder import SpeechEncoder
from omni.units import UnitExtractor, UnitsConfig
from tests.saving import assert_same, read, train_by_hand
from tests.tiny import question

torch.set_num_threads(1)
BLOCK, LEFT = 5, 2
FILES = ["adapter_config.json", "adapter_model.safetensors", "config.json"]


def some_lora(encoder: SpeechEncoder) -> EncoderLora:
    """What a training might have come to."""
    wrapped = wrap_encoder(encoder, lora_config(rank=3, alpha=6))
    torch.manual_seed(7)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    return lora_of(wrapped)


def adapt(model: OmniForConditionalGeneration) -> OmniForConditionalGeneration:
    """Blocks and LoRA, as `omni-train blocks` leaves them."""
    plain, again = (SpeechEncoder(model.speech_encoder.config) for _ in range(2))
    for encoder in (plain, again):
        encoder.load_state_dict(model.speech_encoder.state_dict())
    lora = some_lora(again)
    plain.config = replace(plain.config, block_frames=BLOCK, left_blocks=LEFT)
    model.speech_encoder = merge_lora(plain, lora, where="a test")
    model.speech_encoder.lora = lora
    model.config.audio_config.block_frames = BLOCK
    model.config.audio_config.left_blocks = LEFT
    return model


@pytest.fixture
def adapted(stage1: Path, tmp_path: Path) -> Path:
    adapt(read(stage1)).save_pretrained(tmp_path / "adapted")
    return tmp_path / "adapted"


def frames(encoder: SpeechEncoder) -> Tensor:
    mel = encoder.config.log_mel(question(1.5))
    return encoder(mel[None], torch.ones(1, mel.shape[1], dtype=torch.bool)).values[0]


def edit(file: Path, change: Callable[[dict], None]) -> None:
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def test_the_lora_lies_apart_and_the_base_is_named_and_untouched(
    stage1: Path, tmp_path: Path
) -> None:
    base = read(stage1).config.bases["speech_encoder"]
    before = base_digest("speech_encoder", base), file_digest(Path(base) / "model.safetensors")
    model = adapt(read(stage1))
    model.save_pretrained(tmp_path / "a")
    again = read(tmp_path / "a")
    assert sorted(file.name for file in (tmp_path / "a/speech_encoder").iterdir()) == FILES
    assert_same(again.speech_encoder, model.speech_encoder)
    assert again.speech_encoder.config == model.speech_encoder.config
    assert again.config.bases["speech_encoder"] == base
    assert again.config.base_digests[base] == before[0] == base_digest("speech_encoder", base)
    assert file_digest(Path(base) / "model.safetensors") == before[1]
    told = json.loads((tmp_path / "a/config.json").read_text())["audio_config"]
    assert (told["block_frames"], told["left_blocks"]) == (BLOCK, LEFT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_saved_again_it_is_lora_again(adapted: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    read(adapted, dtype=dtype).save_pretrained(tmp_path / "again")
    first, second = (folder / "speech_encoder" for folder in (adapted, tmp_path / "again"))
    assert sorted(file.name for file in second.iterdir()) == FILES
    before, after = (load_file(folder / FILES[1]) for folder in (first, second))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert_same(read(tmp_path / "again").speech_encoder, read(adapted).speech_encoder)


def test_what_is_live_is_what_the_whole_comes_to(adapted: Path) -> None:
    encoder = read(adapted).speech_encoder
    live, asked = LiveSpeech(encoder), question(1.5)
    state, heard = live.initial_state(), []
    for start in range(0, len(asked), 1600):
        piece, state = live.step(asked[start : start + 1600], state)
        heard.append(piece)
    heard.append(live.finish(state))
    assert len(heard[5]) > 0  # before the end
    torch.testing.assert_close(torch.cat(heard), frames(encoder), atol=1e-5, rtol=1e-5)


def test_what_carries_all_has_it_merged(adapted: Path, tmp_path: Path) -> None:
    read(adapted).save_pretrained(tmp_path / "whole", self_contained=True)
    whole = read(tmp_path / "whole")
    assert "speech_encoder" not in whole.config.bases and whole.speech_encoder.lora is None
    torch.testing.assert_close(frames(whole.speech_encoder), frames(read(adapted).speech_encoder))


def test_what_was_trained_further_is_saved_whole(adapted: Path, tmp_path: Path) -> None:
    model = read(adapted)
    train_by_hand(model.speech_encoder.layers[0])
    model.save_pretrained(tmp_path / "further")
    assert not (tmp_path / "further/speech_encoder/adapter_config.json").exists()
    assert_same(read(tmp_path / "further").speech_encoder, model.speech_encoder)


def test_its_folder_alone_is_an_encoder_of_one_piece(adapted: Path) -> None:
    alone = load_speech_encoder(str(adapted / "speech_encoder"))
    assert alone.config == read(adapted).speech_encoder.config and alone.lora is None
    assert_same(alone, read(adapted).speech_encoder)


def test_without_lora_a_checkpoint_is_what_it_was(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    assert model.speech_encoder.lora is None
    model.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again/speech_encoder").exists()
    assert_same(read(tmp_path / "again"), model)


def test_units_are_those_of_the_base_that_they_were_fitted_on(
    stage1: Path, adapted: Path, tmp_path: Path
) -> None:
    base = load_speech_encoder(read(stage1).config.bases["speech_encoder"])
    config = UnitsConfig(kind="speech_encoder", name="speech_encoder", layer=2)
    torch.manual_seed(1)
    fitted = UnitExtractor(config, torch.randn(300, 32), base)
    fitted.save(adapted / "units")
    save_wav(tmp_path / "question.wav", question(1.5))
    heard = load_audio(tmp_path / "question.wav")
    said = CliRunner().invoke(
        app, ["units", str(tmp_path / "question.wav"), "--extractor", str(adapted)]
    )
    assert said.exit_code == 0, said.output
    units = json.loads(said.stdout.splitlines()[-1])["units"]
    assert units == fitted.extract_merged(heard).tolist()
    other = UnitExtractor(config, fitted.centroids, read(adapted).speech_encoder)
    assert units != other.extract_merged(heard).tolist()


def test_units_in_a_checkpoint_are_of_the_encoder_that_it_names(
    stage1: Path, tmp_path: Path
) -> None:
    named = shutil.copytree(stage1, tmp_path / "named")
    assert not (named / "speech_encoder").exists()
    base = load_speech_encoder(read(stage1).config.bases["speech_encoder"])
    config = UnitsConfig(kind="speech_encoder", name="speech_encoder", layer=2)
    fitted = UnitExtractor(config, torch.randn(300, 32), base)
    fitted.save(named / "units")
    heard = question(1.5)
    assert np.array_equal(load_units(named / "units").extract(heard), fitted.extract(heard))
    fitted.save(tmp_path / "alone")
    with pytest.raises(UserError, match="neither beside it nor on this machine; give it: --sp"):
        load_units(tmp_path / "alone")


def test_info_tells_of_the_lora_and_its_base(stage1: Path, adapted: Path) -> None:
    told, before = (
        next(part for part in describe(folder).parts if part.name == "speech_encoder")
        for folder in (adapted, stage1)
    )
    added = sum(t.numel() for t in load_file(adapted / "speech_encoder" / FILES[1]).values())
    assert told.parameters == before.parameters + added
    base = read(stage1).config.bases["speech_encoder"]
    assert told.source == f"LoRA carried, F32, on {base}"


def test_lora_of_another_encoder_is_refused_by_name(adapted: Path) -> None:
    file = adapted / "speech_encoder" / FILES[1]
    tensors = load_file(file)
    name, *_ = tensors
    del tensors[name]
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=f"missing {name}"):
        read(adapted)


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("base_model_name_or_path", None, "without the name of their base"),
        ("peft_type", "IA3", "peft_type is .*IA3, must be LORA"),
    ],
)
def test_a_folder_that_lacks_what_it_needs_is_refused(
    adapted: Path, name: str, value: str | None, refused: str
) -> None:
    folder = adapted / "speech_encoder"
    edit(folder / FILES[0], lambda config: config.update({name: value}))
    with pytest.raises(CheckpointError, match=refused):
        load_speech_encoder(str(folder))
