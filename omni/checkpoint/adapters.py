"""The language_model/ of a checkpoint: whole, or peft's adapter alone, or with the LLM below it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omni.about import LORA_BASE
from omni.files import CheckpointError, read_json, write_json, write_tensors
from omni.language_model import is_lora, is_quantised

INNER = ("base_layer", "original_module", "token_adapter")  # what peft calls a wrapped layer


def below_adapters(
    language_model: Any, weights: Mapping[str, Tensor]
) -> tuple[Any, dict[str, Tensor]]:
    """The LLM without what peft put around it, and its weights by the names that it had before.

    weights: of `language_model`, by its own names.
    """
    if not is_lora(language_model):
        return language_model, dict(weights)
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    wrapped = [
        name
        for name, module in language_model.named_modules()
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper))
    ]
    outer = _outer_prefix(language_model)
    plain = {}
    for name, value in weights.items():
        found = _plain_name(name, wrapped)
        if found is not None and found.startswith(outer):
            plain[found[len(outer) :]] = value
    base = language_model.get_base_model() if _is_peft(language_model) else language_model
    return base, plain


def save_language_model(
    language_model: Any,
    folder: Path,
    weights: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None,
    merge: bool,
    base: str | None,
    max_shard_size: int | str,
    gathered: bool,
) -> None:
    """Write it as transformers and peft do.

    weights: by its own names; dtype: of the stored ones, None keeps theirs. merge: adapters become
    part of the weights. base: the name of the LLM below an adapter, None if it has to come along.
    gathered: `weights` are not those that the module holds.
    Raises CheckpointError for adapters that one folder can't hold.
    """
    shards: dict[str, Any] = {"max_shard_size": max_shard_size}
    if not is_lora(language_model):
        _save_whole(language_model, folder, weights, dtype, shards)
        return
    if merge:
        if not _is_peft(language_model):
            raise CheckpointError(
                "self_contained=True: adapters of add_adapter() can't be merged; add them by "
                "peft.get_peft_model(model.language_model, ...), or save without self_contained"
            )
        # A copy is merged: the model in hand goes on training with its adapter apart.
        merged = copy.deepcopy(language_model)
        if gathered:
            merged.load_state_dict(dict(weights))
        merged = merged.merge_and_unload()
        _save_whole(merged, folder, merged.state_dict(), dtype, shards)
        return
    if base is None:
        below, plain = below_adapters(language_model, weights)
        if is_quantised(below):
            raise CheckpointError(
                "language_model: quantised below its adapter, and config.bases names no base for "
                'it; set model.config.bases["language_model"] to where its weights came from'
            )
        if not _is_peft(language_model):  # of itself, transformers would write the adapter alone
            below = _shell(below)
        _save_whole(below, folder / LORA_BASE, plain, dtype, shards)
    _save_adapter(language_model, folder, _in(weights, dtype), base)


def _save_whole(
    language_model: Any,
    folder: Path,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    shards: dict[str, Any],
) -> None:
    weights = _in(weights, dtype)
    if any(value.is_meta for value in weights.values()):
        shards = shards | {"state_dict": None}  # offloaded: transformers knows where they lie
    else:
        shards = shards | {"state_dict": dict(weights)}
    language_model.save_pretrained(folder, **shards)
    if dtype is not None:  # transformers names the type of the weights in memory
        config = read_json(folder / "config.json")
        named = str(dtype).removeprefix("torch.")
        write_json(folder / "config.json", config | {"dtype": named})


def _shell(language_model: Any) -> Any:
    """The same LLM without weights, and without the adapter that lives inside it."""
    with torch.device("meta"):
        shell = type(language_model)(copy.deepcopy(language_model.config))
    shell.generation_config = language_model.generation_config
    return shell.to(language_model.dtype)


def _save_adapter(
    language_model: Any, folder: Path, weights: Mapping[str, Tensor], base: str | None
) -> None:
    """As peft does, yet alike for every way to add an adapter, and without this machine's paths."""
    from peft import get_peft_model_state_dict

    names = list(language_model.peft_config)
    if len(names) != 1:
        raise CheckpointError(
            f"language_model: has the adapters {', '.join(names)}, a checkpoint holds one; merge "
            "them by add_weighted_adapter(), or delete_adapter() all but one"
        )
    # Changed embeddings come with the LLM below, and looking for them would ask the hub.
    tensors = get_peft_model_state_dict(
        language_model, dict(weights), adapter_name=names[0], save_embedding_layers=False
    )
    outer = "" if _is_peft(language_model) else "base_model.model."
    folder.mkdir(exist_ok=True)
    write_tensors(
        folder / "adapter_model.safetensors",
        # Copies: tied layers share their memory, which the format refuses.
        {outer + name: value.detach().clone() for name, value in tensors.items()},
    )
    config = copy.copy(language_model.peft_config[names[0]])
    config.inference_mode, config.base_model_name_or_path = True, base
    config.save_pretrained(str(folder))


def _is_peft(language_model: nn.Module) -> bool:
    """Wrapped by get_peft_model; transformers' own add_adapter leaves the class as it was."""
    return hasattr(language_model, "get_base_model")


def _outer_prefix(language_model: Any) -> str:
    if not _is_peft(language_model):
        return ""
    base = language_model.get_base_model()
    return next(f"{name}." for name, module in language_model.named_modules() if module is base)


def _plain_name(name: str, wrapped: list[str]) -> str | None:
    """A weight's name before peft wrapped its layer; None for a weight that peft has added."""
    cuts = []
    for layer in wrapped:
        if name.startswith(f"{layer}."):
            inner = name[len(layer) + 1 :].split(".")[0]
            if inner not in INNER:
                return None
            cuts.append((len(layer), len(layer) + 1 + len(inner)))
    for start, end in reversed(cuts):
        name = name[:start] + name[end:]
    return name


def _in(weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The floating-point weights in another type; None keeps theirs."""
    if dtype is not None and any(value.is_meta for value in weights.values()):
        raise CheckpointError(
            f"dtype={dtype}: weights that are offloaded keep theirs; load without device_map, or "
            "save without dtype"
        )
    return {
        name: value.to(dtype) if dtype and value.is_floating_point() else value
        for name, value in weights.items()
    }
