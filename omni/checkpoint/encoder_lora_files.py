"""The speech_encoder/ of a checkpoint whose encoder is its base with LoRA: peft's files and sizes.

adapter_config.json  adapter_model.safetensors  config.json (the encoder's, with its blocks)
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from omni.encoder_lora import EncoderLora
from omni.files import CheckpointError, read_json, read_tensors, write_tensors
from omni.speech_encoder import SpeechEncoder, write_encoder_config

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_lora_folder(path: Path) -> bool:
    """Whether peft's weights lie there, of an encoder or of an LLM."""
    return (path / CONFIG).is_file()


def lora_base(path: Path) -> str | None:
    """The base that a LoRA folder names; None where there is none, and for any other folder."""
    return read_json(path / CONFIG)["base_model_name_or_path"] if is_lora_folder(path) else None


def save_encoder_lora(
    encoder: SpeechEncoder, folder: Path, *, base: str, dtype: torch.dtype | None
) -> None:
    """Write what the encoder remembers. base: the name of what it is merged into; dtype: of the
    stored weights, None keeps theirs."""
    assert encoder.lora is not None
    folder.mkdir()
    write_encoder_config(encoder.config, folder)
    write_tensors(folder / WEIGHTS, dict(encoder.lora.tensors), dtype=dtype)
    config = copy.copy(encoder.lora.config)
    config.inference_mode, config.base_model_name_or_path = True, base
    config.save_pretrained(str(folder))


def read_encoder_lora(folder: Path) -> tuple[EncoderLora, str | None]:
    """The LoRA, and the name of the base that it says it belongs to.

    Raises CheckpointError for another kind of adapter.
    """
    from peft import LoraConfig, PeftConfig

    config = PeftConfig.from_pretrained(str(folder))
    if not isinstance(config, LoraConfig):
        raise CheckpointError(
            f"{folder / CONFIG}: peft_type is {config.peft_type}, must be LORA; copy it again"
        )
    named, config.base_model_name_or_path = config.base_model_name_or_path, None
    return EncoderLora(config, read_tensors(folder / WEIGHTS)), named
