"""Frozen bases by name: Whisper, HuBERT and causal LMs, from a file, a folder or a hub id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    HubertModel,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from omni.about import LORA_BASE
from omni.checkpoint.encoder_lora_files import is_lora_folder, read_encoder_lora
from omni.checkpoint.gguf_files import (
    is_gguf,
    read_gguf_config,
    read_gguf_model,
    read_gguf_tokenizer,
)
from omni.encoder_lora import merge_lora
from omni.files import (
    CheckpointError,
    check_weights,
    fetch,
    hub_name,
    load_weights,
    on_this_machine,
    read_tensors,
)
from omni.foreign import EncoderWeights, read_encoder, read_encoder_config, read_hubert
from omni.language_model import wrap_in_lora
from omni.speech_encoder import SpeechEncoder


def load_speech_encoder(
    source: str, *, blocks: Mapping[str, int] | None = None, base: str | None = None, **hub: Any
) -> SpeechEncoder:
    """A Whisper encoder of any size, float32.

    source: openai-whisper's file (large-v3.pt) or name (large-v3), a transformers folder or hub
    id (whole Whisper models and encoders alone alike), a CTranslate2 folder, or the LoRA folder of
    a checkpoint, which is merged into its base.
    blocks: attention in blocks (see SpeechEncoderConfig), in place of the source's own.
    base: of a LoRA folder, by the name that its checkpoint has for it; the encoder then remembers
    the LoRA. None takes the base that the folder names, for weights that are of one piece.
    hub: HUB_KEYWORDS. Raises CheckpointError for anything that is no Whisper encoder.
    """
    path = fetch(hub_name(source), **hub)
    if is_lora_folder(path):
        encoder = read_adapted_encoder(path, base, **hub)
        encoder.config = replace(encoder.config, **(blocks or {}))
        return encoder
    weights = read_encoder(path)
    tensors = {name: tensor.float() for name, tensor in weights.tensors.items()}
    encoder = SpeechEncoder(replace(weights.config, **(blocks or {})))
    load_weights(encoder, tensors, where=source)
    return encoder


def encoder_weights(source: str, **hub: Any) -> EncoderWeights:
    """What `load_speech_encoder` builds its encoder from, still in its files unless LoRA is
    merged into it."""
    path = fetch(hub_name(source), **hub)
    if is_lora_folder(path):
        encoder = read_adapted_encoder(path, None, **hub)
        return EncoderWeights(encoder.config, encoder.state_dict())
    return read_encoder(path)


def read_adapted_encoder(folder: Path, base: str | None, **hub: Any) -> SpeechEncoder:
    """What a LoRA folder makes of its base; see `load_speech_encoder`."""
    lora, named = read_encoder_lora(folder)
    below = base or named
    if not below:
        raise CheckpointError(f"{folder}: LoRA weights without the name of their base; give it")
    encoder = load_speech_encoder(below, blocks=read_encoder_config(folder).blocks, **hub)
    encoder = merge_lora(encoder, lora, where=str(folder))
    encoder.lora = None if base is None else lora
    return encoder


def load_language_model(
    source: str, *, base: str | None = None, local_files_only: bool = False, **kwargs: Any
) -> PreTrainedModel:
    """Any causal LM of transformers, from a folder, hub id or GGUF file; LoRA folders bring theirs.

    base: of a LoRA folder that does not carry one; None takes the one that it names.
    local_files_only: ask the hub for nothing.
    kwargs: dtype, device_map, attn_implementation, quantization_config of `from_pretrained`.
    Raises CheckpointError for anything missing, surplus or misshaped.
    """
    path = fetch(source, local_files_only=local_files_only)
    if is_gguf(path):
        return read_gguf_model(path, **kwargs)
    if is_lora_folder(path):
        return _load_lora(path, base, local_files_only=local_files_only, **kwargs)
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
    model = wrap_in_lora(load_language_model(base, **kwargs), config)
    file = folder / "adapter_model.safetensors"
    tensors = read_tensors(file)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    check_weights(expected, tensors, where=str(file))
    set_peft_model_state_dict(model, tensors)
    # peft's wrapper passes on whatever it lacks itself: it is used as the model within.
    return model  # pyright: ignore[reportReturnType]


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """An LLM's tokenizer; the language_model/ of a checkpoint finds it one folder up.

    Raises CheckpointError where there is none.
    """
    path = fetch(source)
    if is_gguf(path):
        return read_gguf_tokenizer(path)
    if not (path / "tokenizer_config.json").is_file():
        above = path.resolve().parent
        path = above if (above / "tokenizer_config.json").is_file() else path
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:  # transformers' words name other remedies, or none
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{source}: no tokenizer of a language model ({reason}); give the folder, hub id or "
            "GGUF file of one"
        ) from None


def base_config(source: str) -> PretrainedConfig:
    """What a base says of its sizes: of the hub its config.json alone is fetched.

    Raises CheckpointError where there is none.
    """
    path = on_this_machine(source)
    if path is not None and is_gguf(path):
        return read_gguf_config(path)
    try:
        return AutoConfig.from_pretrained(path or source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{source}: no configuration of a model ({reason}); give a folder or hub id of one"
        ) from None


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
