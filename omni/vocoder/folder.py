"""A vocoder on disk: config.json with its kind and sizes, model.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omni.files import read_json, read_tensors, replace_folder, write_json, write_tensors
from omni.vocoder.base import Vocoder
from omni.vocoder.hifigan import HifiGanConfig, UnitHifiGan
from omni.vocoder.nsf import NsfConfig, NsfVocoder

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

    Raises ValueError for an unknown kind or key and for weights that are missing, surplus or of
    another shape than the configuration says.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: not there; a vocoder's folder holds both files")
    config = parse_config(read_json(folder / "config.json"), str(folder))
    vocoder = VOCODERS[config.kind](config)
    weights = read_tensors(folder / "model.safetensors")
    check_weights(weights, vocoder.state_dict(), str(folder / "model.safetensors"))
    vocoder.load_state_dict({name: value.float() for name, value in weights.items()})
    return vocoder.eval()


def parse_config(raw: Mapping[str, Any], source: str) -> Any:
    """{"kind": ..., fields} -> HifiGanConfig or NsfConfig; source: what errors call it."""
    kind = raw.get("kind")
    if kind not in CONFIGS:
        raise ValueError(
            f"{source}: vocoder kind {kind!r} is unknown; known are {', '.join(sorted(CONFIGS))}"
        )
    config = CONFIGS[kind]
    known = {field.name: field for field in fields(config)}
    for key in raw:
        if key != "kind" and key not in known:
            raise ValueError(
                f"{source}: key {key!r} is not a field of {config.__name__}; remove it, or use "
                f"the version that wrote it. Fields: {', '.join(known)}"
            )
    for key, field in known.items():
        if key not in raw and field.default is MISSING:
            raise ValueError(f"{source}: key {key!r} is missing; {config.__name__} needs it")
    return config(**{key: _tuples(value) for key, value in raw.items() if key != "kind"})


def check_weights(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError, naming the first weight that does not fit."""
    remedy = "config.json and model.safetensors must come from one checkpoint"
    for name, value in wanted.items():
        if name not in found:
            raise ValueError(f"{source}: weight {name} is missing; {remedy}")
        if found[name].shape != value.shape:
            raise ValueError(
                f"{source}: weight {name} is {list(found[name].shape)}, must be "
                f"{list(value.shape)} by config.json; {remedy}"
            )
    for name in found:
        if name not in wanted:
            raise ValueError(f"{source}: weight {name} is surplus; {remedy}")


def _tuples(value: Any) -> Any:
    """JSON knows no tuples, and a frozen configuration no lists."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
