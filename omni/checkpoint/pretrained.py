"""from_pretrained: the model that a checkpoint folder describes, its bases found by their names.

The folder's files are told in omni/checkpoint/saving.py, which writes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from omni.checkpoint.bases import load_language_model, load_speech_encoder
from omni.checkpoint.named import require_bases, warn_of_other_weights
from omni.config import OmniConfig
from omni.devices import exact_device
from omni.files import (
    HUB_KEYWORDS,
    CheckpointError,
    ReadFrom,
    fetch,
    load_weights,
    read_json,
    read_tensors,
)
from omni.vocoder import load_vocoder

if TYPE_CHECKING:
    from omni.model import OmniForConditionalGeneration


def read_checkpoint(
    kind: type[OmniForConditionalGeneration],
    source: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    attn_implementation: str | None = None,
    quantization_config: Any = None,
    config: OmniConfig | None = None,
    **hub: Any,
) -> OmniForConditionalGeneration:
    """Build the model that a folder or hub id describes; every weight is checked.

    dtype: of all weights but the vocoder's, which computes phases and stays float32; None is
    float32 on a CPU and the stored type elsewhere. device_map, attn_implementation and
    quantization_config go to the LLM; the other parts follow its device.
    config: takes the place of the folder's config.json. hub: see omni.files.HUB_KEYWORDS.
    Raises CheckpointError for anything missing, surplus or misshaped.
    """
    if surplus := sorted(hub.keys() - set(HUB_KEYWORDS)):
        raise TypeError(f"from_pretrained() got an unexpected keyword argument {surplus[0]!r}")
    folder = fetch(str(source), **hub)
    if config is None:
        config = read_config(folder)
    require_bases(folder, config, name=str(source))
    if dtype is None:
        dtype = torch.float32 if device_map in (None, "cpu") else "auto"
    named = config.bases.get("language_model")
    language_model = _part(
        folder, config, "language_model",
        lambda where: load_language_model(
            where, base=named, local_files_only=True, dtype=dtype, device_map=device_map,
            attn_implementation=attn_implementation, quantization_config=quantization_config,
        ),
    )  # fmt: skip
    speech_encoder = _part(
        folder, config, "speech_encoder",
        lambda where: load_speech_encoder(
            where, blocks=config.encoder.blocks, base=config.bases.get("speech_encoder"),
            local_files_only=True,
        ),
    )  # fmt: skip
    for what, found, told in (
        ("LLM width", language_model.config.get_text_config().hidden_size, config.hidden_size),
        ("encoder width", speech_encoder.width, config.audio_config.d_model),
        ("log-mel bins", speech_encoder.config.n_mels, config.audio_config.num_mel_bins),
    ):
        if found != told:
            raise CheckpointError(
                f"{folder}: {what} of the base is {found}, config.json says {told}; it must be the "
                "base that the checkpoint was trained on"
            )
    model = kind(config, language_model=language_model, speech_encoder=speech_encoder)
    parts = {"speech_adapter": model.speech_adapter, "unit_decoder": model.unit_decoder}
    for name, module in parts.items():
        if module is not None:
            tensors = read_tensors(folder / f"{name}.safetensors")
            load_weights(module, tensors, where=f"{folder}/{name}.safetensors")
    for module in (model.speech_encoder, model.speech_adapter, model.unit_decoder):
        if module is not None:
            module.to(language_model.device, language_model.dtype)
    if (folder / "vocoder").is_dir():
        model.vocoder = load_vocoder(folder / "vocoder").to(exact_device(language_model.device))
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    warn_of_other_weights(folder, config)
    model.read_from = ReadFrom(str(source), folder)
    return model.eval()


def read_config(folder: Path) -> OmniConfig:
    """Of a checkpoint's folder. Raises CheckpointError if it is another kind of model's."""
    values = read_json(folder / "config.json")
    if values.get("model_type") != OmniConfig.model_type:
        raise CheckpointError(
            f"{folder}/config.json: model_type is {values.get('model_type')!r}, must be "
            f"{OmniConfig.model_type!r}; `omni convert` reads other formats"
        )
    return OmniConfig.from_dict(values)


def _part(folder: Path, config: OmniConfig, name: str, load: Callable[[str], Any]) -> Any:
    """A base from the folder itself if it carries it, else by the name in config.json."""
    if (folder / name).is_dir():
        return load(str(folder / name))
    if name not in config.bases:
        raise CheckpointError(
            f"{folder}: has no {name}/ and config.json names no base for it; copy the folder "
            f'again, or add "bases": {{"{name}": HUB_ID_OR_FOLDER}}'
        )
    return load(config.bases[name])
