"""Frozen bases by name: Whisper, HuBERT and causal LMs, from a file, a folder or a hub id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    HubertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    WhisperConfig,
)

from omni.about import LORA_BASE
from omni.files import CheckpointError, check_weights, fetch, hub_name, load_weights, read_tensors
from omni.foreign import read_hubert, read_whisper
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig


def load_speech_encoder(source: str, *, block_frames: int | None = None) -> SpeechEncoder:
    """A Whisper encoder of any size, float32.

    source: openai-whisper's file (large-v3.pt) or name (large-v3), or a transformers folder or
    hub id, whole Whisper models and encoders alone alike.
    Raises CheckpointError for anything that is no Whisper encoder.
    """
    config, tensors = encoder_tensors(source)
    encoder = SpeechEncoder(config, block_frames=block_frames)
    load_weights(encoder, {k: v.float() for k, v in tensors.items()}, where=source)
    return encoder


def encoder_tensors(source: str, **hub: Any) -> tuple[SpeechEncoderConfig, Mapping[str, Tensor]]:
    """What `load_speech_encoder` builds its encoder from; hub: HUB_KEYWORDS."""
    path = fetch(hub_name(source), **hub)
    if path.is_file():
        weights = read_whisper(path)
        return weights.config, weights.tensors
    return _read_transformers(path)


def _read_transformers(folder: Path) -> tuple[SpeechEncoderConfig, dict[str, Tensor]]:
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from None
    if not isinstance(config, WhisperConfig):
        raise CheckpointError(
            f"{folder}: model_type is {config.model_type!r}, a Whisper encoder is needed"
        )
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= read_tensors(file)
    if not tensors:
        raise CheckpointError(f"{folder}: no .safetensors file; convert the weights to safetensors")
    for prefix in ("model.encoder.", "encoder.", ""):
        part = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
        if "conv1.weight" in part:
            return SpeechEncoderConfig.from_whisper(config.to_dict()), part
    raise CheckpointError(f"{folder}: no weight named conv1.weight; is this a Whisper model?")


def load_language_model(source: str, *, base: str | None = None, **kwargs: Any) -> PreTrainedModel:
    """Any causal LM of transformers, from a folder or hub id; LoRA folders bring their base.

    base: of a LoRA folder that does not carry one; None takes the one that it names.
    kwargs: dtype, device_map, attn_implementation, quantization_config of `from_pretrained`.
    Raises CheckpointError for anything missing, surplus or misshaped.
    """
    path = fetch(source)
    if (path / "adapter_config.json").is_file():
        return _load_lora(path, base, **kwargs)
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    try:
        # Mismatches are not to be ignored: told by name below, instead of in a table.
        both: Any = AutoModelForCausalLM.from_pretrained(
            path, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
        )
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    model, loaded = both
    for what in ("missing", "unexpected", "mismatched"):
        if found := sorted(str(key) for key in loaded[f"{what}_keys"]):
            raise CheckpointError(
                f"{path}: {what} weight {found[0]} ({len(found)} in all); weights and config.json "
                "must belong together, copy the folder again"
            )
    return model


def _load_lora(folder: Path, base: str | None, **kwargs: Any) -> PreTrainedModel:
    from peft import (
        LoraConfig,
        PeftConfig,
        get_peft_model,
        get_peft_model_state_dict,
        set_peft_model_state_dict,
    )

    config = PeftConfig.from_pretrained(str(folder))
    if (folder / LORA_BASE).is_dir():
        base = str(folder / LORA_BASE)
    base = base or config.base_model_name_or_path
    if not base:
        raise CheckpointError(f"{folder}: LoRA weights without the name of their base; give it")
    config.base_model_name_or_path = None  # peft warns of another place than the writer's
    if isinstance(config, LoraConfig) and config.init_lora_weights is not True:
        # Its weights are read below; a start such as PiSSA's would change the base beforehand.
        config.init_lora_weights = True
    model = get_peft_model(load_language_model(base, **kwargs), config)
    file = folder / "adapter_model.safetensors"
    tensors = read_tensors(file)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    check_weights(expected, tensors, where=str(file))
    set_peft_model_state_dict(model, tensors)
    # peft's wrapper passes on whatever it lacks itself: it is used as the model within.
    return model  # pyright: ignore[reportReturnType]


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """An LLM's tokenizer; the language_model/ of a checkpoint finds it one folder up."""
    path = fetch(source)
    if not (path / "tokenizer_config.json").is_file():
        above = path.resolve().parent
        path = above if (above / "tokenizer_config.json").is_file() else path
    return AutoTokenizer.from_pretrained(path)


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: not readable ({str(error).strip().splitlines()[0]}); copy the folder again"
    )


def load_hubert(source: str, *, revision: str = "main") -> HubertModel:
    """A HuBERT, float32, ready to encode: fairseq's .pt file, a transformers folder or hub id.

    Raises CheckpointError for a file that is no HuBERT of fairseq's.
    """
    if Path(source).is_file():
        weights = read_hubert(source)
        model = HubertModel(weights.config)
        tensors = {name: tensor.float() for name, tensor in weights.tensors.items()}
        load_weights(model, tensors, where=source)
        return model.eval()
    # float32: units must not depend on how the weights were stored.
    return HubertModel.from_pretrained(source, revision=revision, dtype=torch.float32).eval()
