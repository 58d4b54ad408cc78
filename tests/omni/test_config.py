"""The configuration survives the disk, and says what is wrong with it by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from omni.config import FORMAT_VERSION, OmniConfig
from omni.files.folders import CheckpointError
from omni.speech_adapter import SpeechAdapterConfig
from tests.tiny import tiny_config


def edited(tmp_path: Path, **changes: Any) -> Path:
    """A folder whose config.json has these changes."""
    tiny_config().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return tmp_path


def test_a_configuration_survives_a_dictionary() -> None:
    config = tiny_config(block_frames=8)
    again = OmniConfig.from_dict(config.to_dict())
    assert again.to_dict() == config.to_dict()
    assert (again.adapter, again.units, again.prompt_config) == (
        config.adapter, config.units, config.prompt_config,
    )  # fmt: skip


def test_a_configuration_survives_the_disk(tmp_path: Path) -> None:
    config = tiny_config(block_frames=8)
    config.bases = {"language_model": "owner/name"}
    config.save_pretrained(tmp_path)
    again = OmniConfig.from_pretrained(tmp_path)
    for name in ("adapter", "units", "prompt_config", "encoder", "bases", "speech_token_id"):
        assert getattr(again, name) == getattr(config, name), name
    assert again.audio_config.to_dict() == config.audio_config.to_dict()
    assert again.text_config.to_dict() == config.text_config.to_dict()
    assert type(AutoConfig.from_pretrained(tmp_path)) is OmniConfig


def test_the_defaults_are_the_published_sizes() -> None:
    assert OmniConfig().adapter == SpeechAdapterConfig(stack=5, hidden=2048)
    assert OmniConfig().units is None


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"unknown key 'speech_adaptor'"):
        OmniConfig.from_pretrained(edited(tmp_path, speech_adaptor={}))


@pytest.mark.parametrize("part", ["speech_adapter", "unit_decoder", "prompt"])
def test_an_unknown_key_of_a_part_is_refused_by_its_name(part: str) -> None:
    config = tiny_config()
    getattr(config, part)["depth"] = 3
    name = {"speech_adapter": "adapter", "unit_decoder": "units", "prompt": "prompt_config"}[part]
    with pytest.raises(CheckpointError, match=rf"{part}: unknown key 'depth'; known are"):
        getattr(config, name)


def test_a_missing_key_of_a_part_is_refused_by_its_name() -> None:
    config = tiny_config()
    assert config.unit_decoder is not None
    del config.unit_decoder["num_units"]
    with pytest.raises(CheckpointError, match=r"unit_decoder: key 'num_units' is missing"):
        _ = config.units


def test_a_checkpoint_of_an_earlier_version_says_units_and_is_read(tmp_path: Path) -> None:
    config = tiny_config()
    assert config.unit_decoder is not None
    old = dict(config.unit_decoder)
    old["units"] = old.pop("num_units")
    again = OmniConfig.from_pretrained(edited(tmp_path, unit_decoder=old))
    assert again.units == config.units
    assert again.to_dict()["unit_decoder"] == config.unit_decoder  # written by the new name


def test_a_value_of_another_type_is_refused_by_its_name() -> None:
    config = tiny_config()
    config.speech_adapter["stack"] = "5"
    with pytest.raises(CheckpointError, match=r"speech_adapter: stack='5': must be of type int"):
        _ = config.adapter


def test_what_other_releases_of_transformers_write_is_no_error(tmp_path: Path) -> None:
    folder = edited(
        tmp_path, transformers_version="4.43.4", torch_dtype="float16", use_cache=True,
        pruned_heads={}, do_sample=False, top_k=50, tf_legacy_loss=False, pad_token_id=0,
        _attn_implementation_autoset=True,
    )  # fmt: skip
    assert OmniConfig.from_pretrained(folder).adapter == tiny_config().adapter


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    folder = edited(tmp_path, format_version=FORMAT_VERSION + 1)
    with pytest.raises(CheckpointError, match=rf"reads up to {FORMAT_VERSION}; upgrade"):
        OmniConfig.from_pretrained(folder)
