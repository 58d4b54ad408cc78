"""Frozen bases by name: Whisper encoders and causal LMs, from a file, a folder or a hub id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, WhisperConfig

from omni.checkpoint import CheckpointError, load_weights
from omni.speech_encoder import SpeechEncoder, whisper_config

OPENAI_NAMES = (
    "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en",
    "large-v1", "large-v2", "large-v3", "large-v3-turbo",
)  # fmt: skip

# openai-whisper's names -> transformers'; `key` has no bias in either.
_OPENAI_KEYS = (
    (r"^encoder\.", ""),
    (r"^blocks\.", "layers."),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.2\.", ".fc2."),
    (r"\.mlp_ln\.", ".final_layer_norm."),
    (r"\.attn_ln\.", ".self_attn_layer_norm."),
    (r"\.attn\.query\.", ".self_attn.q_proj."),
    (r"\.attn\.key\.", ".self_attn.k_proj."),
    (r"\.attn\.value\.", ".self_attn.v_proj."),
    (r"\.attn\.out\.", ".self_attn.out_proj."),
    (r"^ln_post\.", "layer_norm."),
    (r"^positional_embedding$", "embed_positions.weight"),
)


def fetch(source: str) -> Path:
    """A local folder or file as it is; anything else is a hub id, fetched by huggingface_hub.

    Raises CheckpointError if it is neither.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise CheckpointError(
            f"{source}: no such file or folder, and no hub id of the form OWNER/NAME; check the path"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{source}: not a local folder, and the hub did not give it ({reason}); check the name "
            "and the network, or download it yourself and give the folder"
        ) from None


def load_speech_encoder(source: str, *, block_frames: int | None = None) -> SpeechEncoder:
    """A Whisper encoder of any size, float32.

    source: openai-whisper's file (large-v3.pt) or name (large-v3), or a transformers folder or
    hub id, whole Whisper models and encoders alone alike.
    Raises CheckpointError for anything that is no Whisper encoder.
    """
    if source in OPENAI_NAMES:
        source = f"openai/whisper-{source}"
    path = fetch(source)
    config, tensors = _read_openai(path) if path.is_file() else _read_transformers(path)
    encoder = SpeechEncoder(config, block_frames=block_frames)
    load_weights(encoder, {k: v.float() for k, v in tensors.items()}, where=source)
    return encoder


def _read_openai(path: Path) -> tuple[WhisperConfig, dict[str, Tensor]]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        dims, state = loaded["dims"], loaded["model_state_dict"]
    except Exception as error:
        raise CheckpointError(
            f"{path}: no openai-whisper checkpoint ({type(error).__name__}); it must hold 'dims' "
            "and 'model_state_dict'"
        ) from None
    config = whisper_config(
        n_mels=dims["n_mels"],
        width=dims["n_audio_state"],
        layers=dims["n_audio_layer"],
        heads=dims["n_audio_head"],
        ffn=4 * dims["n_audio_state"],
        max_frames=dims["n_audio_ctx"],
    )
    encoder = {name: value for name, value in state.items() if name.startswith("encoder.")}
    return config, openai_to_transformers(encoder)


def openai_to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename an openai-whisper encoder's weights to transformers' names."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in _OPENAI_KEYS:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def _read_transformers(folder: Path) -> tuple[WhisperConfig, dict[str, Tensor]]:
    config = AutoConfig.from_pretrained(folder)
    if not isinstance(config, WhisperConfig):
        raise CheckpointError(
            f"{folder}: model_type is {config.model_type!r}, a Whisper encoder is needed"
        )
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    if not tensors:
        raise CheckpointError(f"{folder}: no .safetensors file; convert the weights to safetensors")
    for prefix in ("model.encoder.", "encoder.", ""):
        part = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
        if "conv1.weight" in part:
            return config, part
    raise CheckpointError(f"{folder}: no weight named conv1.weight; is this a Whisper model?")


def load_language_model(source: str, **kwargs: Any) -> PreTrainedModel:
    """Any causal LM of transformers, from a folder or hub id; LoRA folders bring their base.

    kwargs: dtype, device_map, attn_implementation, quantization_config of `from_pretrained`.
    """
    path = fetch(source)
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    if (path / "adapter_config.json").is_file():
        from peft import AutoPeftModelForCausalLM

        return AutoPeftModelForCausalLM.from_pretrained(path, **kwargs)  # type: ignore[return-value]
    return AutoModelForCausalLM.from_pretrained(path, **kwargs)
