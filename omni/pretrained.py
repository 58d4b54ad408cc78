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

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoProcessor, GenerationConfig

from omni.bases import fetch, load_language_model, load_speech_encoder
from omni.checkpoint import CheckpointError, load_weights, read_json, read_tensors, replace_folder
from omni.config import OmniConfig
from omni.language_model import is_lora
from omni.processor import OmniProcessor
from omni.speech_encoder import save_speech_encoder
from omni.vocoder import load_vocoder, save_vocoder

if TYPE_CHECKING:
    from omni.model import OmniForConditionalGeneration

NANO = Path(__file__).parent / "nano" / "checkpoint"
CARRIED = ("units", "README.md")  # files of a checkpoint that the model itself never opens


def write_checkpoint(
    model: OmniForConditionalGeneration,
    folder: str | Path,
    *,
    self_contained: bool = False,
    dtype: torch.dtype | None = None,
    processor: OmniProcessor | None = None,
    carry: str | Path | None = None,
) -> None:
    """Write a checkpoint folder aside and rename it when complete.

    self_contained: carry the frozen bases too. dtype: of the stored weights, None keeps theirs.
    carry: a folder whose units/ and model card come along.
    Raises CheckpointError if a frozen base has no name to be found by, and is not carried.
    """
    with replace_folder(folder) as aside:
        config = OmniConfig(**_own_values(model.config))
        if self_contained:
            config.bases = {}
        config.architectures = [type(model).__name__]
        config.save_pretrained(aside)
        _save(model.speech_adapter, aside / "speech_adapter.safetensors", dtype)
        if model.unit_decoder is not None:
            _save(model.unit_decoder, aside / "unit_decoder.safetensors", dtype)
        if self_contained or "speech_encoder" not in config.bases:
            save_speech_encoder(model.speech_encoder, aside / "speech_encoder")
        if self_contained or "language_model" not in config.bases or touched(model):
            _save_language_model(model, aside / "language_model", self_contained, dtype)
        if model.vocoder is not None:
            save_vocoder(model.vocoder, aside / "vocoder", dtype=dtype)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(aside)
        if processor is not None:
            processor.save_pretrained(aside)
        for name in CARRIED if carry is not None else ():
            _copy(Path(carry) / name, aside / name)  # type: ignore[arg-type]


def touched(model: OmniForConditionalGeneration) -> bool:
    """Whether the LLM is no longer the base that config.json names."""
    return any("language_model" in parts for parts in model.config.trained.values())


def _own_values(config: OmniConfig) -> dict[str, Any]:
    names = (
        "speech_adapter", "unit_decoder", "prompt", "speech_token_id", "pad_to_window",
        "block_frames", "bases", "trained",
    )  # fmt: skip
    values = {name: getattr(config, name) for name in names}
    return values | {
        "audio_config": config.audio_config.to_dict(),
        "text_config": config.text_config.to_dict(),
    }


def _save(module: nn.Module, path: Path, dtype: torch.dtype | None) -> None:
    state = {
        name: value.to("cpu", dtype or value.dtype).contiguous()
        for name, value in module.state_dict().items()
    }
    save_file(state, path, metadata={"format": "pt"})


def _save_language_model(
    model: OmniForConditionalGeneration, folder: Path, whole: bool, dtype: torch.dtype | None
) -> None:
    language_model = model.language_model
    if whole and is_lora(language_model):
        # A copy is merged: the model in hand goes on training with its LoRA weights apart.
        import copy

        language_model = copy.deepcopy(language_model).merge_and_unload()  # type: ignore[operator]
    state = {
        name: value.to(dtype) if dtype and value.is_floating_point() else value
        for name, value in language_model.state_dict().items()
    }
    if is_lora(language_model):
        language_model.save_pretrained(folder)
    else:
        language_model.save_pretrained(folder, state_dict=state)


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
) -> OmniForConditionalGeneration:
    """Build the model that a folder or hub id describes; every weight is checked.

    dtype: of all weights; None is float32 on a CPU and the stored type elsewhere. device_map,
    attn_implementation and quantization_config go to the LLM; the other stages follow its device.
    Raises CheckpointError for anything missing, surplus or misshaped.
    """
    folder = fetch(str(source))
    read_json(folder / "config.json")  # first: its errors name the file
    config = OmniConfig.from_pretrained(folder)
    if dtype is None:
        dtype = torch.float32
    language_model = _part(
        folder, config, "language_model",
        lambda where: load_language_model(
            where, dtype=dtype, device_map=device_map, attn_implementation=attn_implementation,
            quantization_config=quantization_config,
        ),
    )  # fmt: skip
    model = kind(config, language_model=language_model)
    model.speech_encoder = _part(
        folder, config, "speech_encoder",
        lambda where: load_speech_encoder(where, block_frames=config.block_frames),
    )  # fmt: skip
    stages = {"speech_adapter": model.speech_adapter, "unit_decoder": model.unit_decoder}
    for name, module in stages.items():
        if module is not None:
            tensors = read_tensors(folder / f"{name}.safetensors")
            load_weights(module, tensors, where=f"{folder}/{name}.safetensors")
    if (folder / "vocoder").is_dir():
        model.vocoder = load_vocoder(folder / "vocoder")
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    device = language_model.device
    for module in (model.speech_encoder, model.speech_adapter, model.unit_decoder, model.vocoder):
        if module is not None:
            module.to(device, dtype if isinstance(dtype, torch.dtype) else None)
    model.speech_encoder.requires_grad_(False)
    return model.eval()


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


def register() -> None:
    """Make AutoConfig, AutoModel and AutoProcessor know "omni"."""
    from omni.model import OmniForConditionalGeneration

    AutoConfig.register("omni", OmniConfig, exist_ok=True)
    AutoModel.register(OmniConfig, OmniForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(OmniConfig, OmniProcessor, exist_ok=True)
