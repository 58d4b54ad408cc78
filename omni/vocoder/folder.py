"""A vocoder on disk: config.json with its kind and sizes, model.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omni.files import (
    CheckpointError,
    build_config,
    load_weights,
    read_json,
    read_tensors,
    replace_folder,
    write_json,
    write_tensors,
)
from omni.vocoder.base import Vocoder
from omni.vocoder.hifigan import UnitHifiGan
from omni.vocoder.hifigan_config import HifiGanConfig
from omni.vocoder.nsf import NsfVocoder
from omni.vocoder.nsf_config import NsfConfig

VOCODERS: dict[str, type[Vocoder]] = {UnitHifiGan.kind: UnitHifiGan, NsfVocoder.kind: NsfVocoder}
CONFIGS: dict[str, type] = {HifiGanConfig.kind: HifiGanConfig, NsfConfig.kind: NsfConfig}


def save_vocoder(
    vocoder: Vocoder,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = torch.float16,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the folder aside, then rename it.

    dtype: of the weights on disk, None keeps theirs; weights: where the module's are elsewhere.
    """
    state = vocoder.state_dict() if weights is None else weights
    with replace_folder(folder) as aside:
        write_json(aside / "config.json", {"kind": vocoder.kind, **asdict(vocoder.config)})
        write_tensors(aside / "model.safetensors", state, dtype=dtype)


def load_vocoder(folder: str | Path) -> Vocoder:
    """Read a folder of `save_vocoder`; float32, in evaluation mode.

    Raises CheckpointError for an unknown kind or key, and for weights that are missing, surplus or
    of another shape than the configuration says.
    """
    folder = Path(folder)
    config = parse_config(read_json(folder / "config.json"), str(folder))
    vocoder = VOCODERS[config.kind](config)
    weights = read_tensors(folder / "model.safetensors")
    weights = {name: value.float() for name, value in weights.items()}
    load_weights(vocoder, weights, where=str(folder / "model.safetensors"))
    return vocoder.eval()


def parse_config(raw: Mapping[str, Any], source: str) -> Any:
    """{"kind": ..., fields} -> HifiGanConfig or NsfConfig; source: what errors call it."""
    kind = raw.get("kind")
    if kind not in CONFIGS:
        raise CheckpointError(
            f"{source}: vocoder kind {kind!r} is unknown; known are {', '.join(sorted(CONFIGS))}"
        )
    fields = {key: value for key, value in raw.items() if key != "kind"}
    return build_config(CONFIGS[kind], fields, where=source)
