"""save_pretrained and from_pretrained: a checkpoint folder names its frozen bases, or carries them.

config.json                  stages, sizes, bases by name
speech_adapter.safetensors   unit_decoder.safetensors (after stage 2)
speech_encoder/              only in a self-contained checkpoint
language_model/              full or LoRA; absent if untouched
vocoder/  units/             what turns units into sound, and speech into units
generation_config.json       sampling and chunk schedule
tokenizer files, chat template, README.md (model card)
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from omni.bases import HUB_KEYWORDS, fetch, load_language_model, load_speech_encoder
from omni.checkpoint import (
    CheckpointError,
    load_weights,
    read_json,
    read_tensors,
    replace_folder,
    write_tensors,
)
from omni.config import OmniConfig
from omni.language_model import is_lora
from omni.processor import OmniProcessor
from omni.speech_encoder import save_speech_encoder
from omni.vocoder import load_vocoder, save_vocoder

if TYPE_CHECKING:
    from omni.model import OmniForConditionalGeneration

NANO = Path(__file__).parent / "nano" / "checkpoint"
CARRIED = ("units", "README.md")  # files of a checkpoint that the model itself never opens
# What the model writes; whatever else an earlier checkpoint of this name holds is kept.
WRITTEN = (
    "config.json", "speech_adapter.safetensors", "unit_decoder.safetensors", "speech_encoder",
    "language_model", "vocoder", "generation_config.json",
)  # fmt: skip


def write_checkpoint(
    model: OmniForConditionalGeneration,
    folder: str | Path,
    *,
    self_contained: bool = False,
    dtype: torch.dtype | None = None,
    processor: OmniProcessor | None = None,
    carry: str | Path | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
    max_shard_size: int | str = "50GB",
    is_main_process: bool = True,
) -> None:
    """Write a checkpoint folder aside and rename it when complete.

    A base that config.json gives no name for is carried. An earlier checkpoint in `folder` is
    replaced; its tokenizer and other files stay.

    self_contained: carry all bases, LoRA merged. dtype: of the stored weights, None keeps theirs.
    carry: a folder whose units/ and model card come along. state_dict: the weights, where a
    Trainer has gathered them; None asks the model.
    Raises CheckpointError for a folder that holds something else, and for LoRA without the name
    of its base.
    """
    folder = Path(folder)
    _check_target(folder)
    if not is_main_process:
        return
    weights = model.state_dict() if state_dict is None else state_dict
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    if self_contained:
        config.bases = {}
    with replace_folder(folder) as aside:
        config.save_pretrained(aside)
        for name in ("speech_adapter", "unit_decoder"):
            if part := _part_of(weights, name):
                write_tensors(aside / f"{name}.safetensors", part, dtype=dtype)
        if "speech_encoder" not in config.bases:
            stored = dtype or model.speech_encoder.conv1.weight.dtype
            save_speech_encoder(model.speech_encoder, aside / "speech_encoder", dtype=stored)
        if "language_model" not in config.bases or touched(model):
            part = _in(_part_of(weights, "language_model"), dtype)
            _save_language_model(
                model, aside / "language_model", part, self_contained, max_shard_size
            )
        if model.vocoder is not None:
            stored = dtype or next(model.vocoder.parameters()).dtype
            save_vocoder(model.vocoder, aside / "vocoder", dtype=stored)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(aside)
        if processor is not None:
            processor.save_pretrained(aside)
        for name in CARRIED if carry is not None else ():
            _copy(Path(carry) / name, aside / name)  # type: ignore[arg-type]
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.name not in WRITTEN and not (aside / entry.name).exists():
                _copy(entry, aside / entry.name)


def touched(model: OmniForConditionalGeneration) -> bool:
    """Whether the LLM is no longer the base that config.json names."""
    return is_lora(model.language_model) or any(
        "language_model" in parts for parts in model.config.trained.values()
    )


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file; give a folder to save into")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    config = folder / "config.json"
    if not config.is_file() or read_json(config).get("model_type") != OmniConfig.model_type:
        raise CheckpointError(
            f"{folder}: not empty and no omni checkpoint; saving replaces, so give a new folder"
        )


def _part_of(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of one submodule, by their names in it."""
    prefix = f"{name}."
    return {key[len(prefix) :]: w for key, w in weights.items() if key.startswith(prefix)}


def _in(weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    return {
        name: value.to(dtype) if dtype and value.is_floating_point() else value
        for name, value in weights.items()
    }


def _save_language_model(
    model: OmniForConditionalGeneration,
    folder: Path,
    weights: dict[str, Tensor],
    self_contained: bool,
    max_shard_size: int | str,
) -> None:
    language_model: Any = model.language_model
    if not is_lora(language_model):
        language_model.save_pretrained(folder, state_dict=weights, max_shard_size=max_shard_size)
    elif self_contained:
        # A copy is merged: the model in hand goes on training with its LoRA weights apart.
        merged = copy.deepcopy(language_model).merge_and_unload()
        merged.save_pretrained(folder, max_shard_size=max_shard_size)
    elif "language_model" not in model.config.bases:
        raise CheckpointError(
            'config.bases: names no "language_model", so nothing could read the LoRA weights; '
            "name the base, or save with self_contained=True"
        )
    else:
        # Embeddings never train here, and looking for changed ones would ask the hub.
        language_model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty form


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.is_file():
        shutil.copy2(source, target)


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
    quantization_config go to the LLM; the other stages follow its device.
    config: takes the place of the folder's config.json. hub: see omni.bases.HUB_KEYWORDS.
    Raises CheckpointError for anything missing, surplus or misshaped.
    """
    if surplus := sorted(hub.keys() - set(HUB_KEYWORDS)):
        raise TypeError(f"from_pretrained() got an unexpected keyword argument {surplus[0]!r}")
    folder = fetch(str(source), **hub)
    if config is None:
        config = _read_config(folder)
    if dtype is None:
        dtype = torch.float32 if device_map in (None, "cpu") else "auto"
    named = config.bases.get("language_model")
    language_model = _part(
        folder, config, "language_model",
        lambda where: load_language_model(
            where, base=named, dtype=dtype, device_map=device_map,
            attn_implementation=attn_implementation, quantization_config=quantization_config,
        ),
    )  # fmt: skip
    speech_encoder = _part(
        folder, config, "speech_encoder",
        lambda where: load_speech_encoder(where, block_frames=config.block_frames),
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
    stages = {"speech_adapter": model.speech_adapter, "unit_decoder": model.unit_decoder}
    for name, module in stages.items():
        if module is not None:
            tensors = read_tensors(folder / f"{name}.safetensors")
            load_weights(module, tensors, where=f"{folder}/{name}.safetensors")
    for module in (model.speech_encoder, model.speech_adapter, model.unit_decoder):
        if module is not None:
            module.to(language_model.device, language_model.dtype)
    if (folder / "vocoder").is_dir():
        model.vocoder = load_vocoder(folder / "vocoder").to(language_model.device)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval()


def _read_config(folder: Path) -> OmniConfig:
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


def load(
    checkpoint: str | Path | None = None, **kwargs: Any
) -> tuple[OmniForConditionalGeneration, OmniProcessor]:
    """A model ready to answer and its processor; None is the embedded nano.

    kwargs: those of `OmniForConditionalGeneration.from_pretrained`.
    """
    from omni.model import OmniForConditionalGeneration

    source = NANO if checkpoint is None else checkpoint
    model = OmniForConditionalGeneration.from_pretrained(source, **kwargs)
    return model, OmniProcessor.from_pretrained(source)
