"""The folder on disk: read it back, and say exactly what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omni.files.errors import UserError
from omni.files.strict import build_strictly
from omni.files.writing import write_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message names the file, the rule and the remedy."""


@dataclass(frozen=True)
class ReadFrom:
    """The checkpoint that a model was read from. name: as given; folder: where its files lie."""

    name: str
    folder: Path


@dataclass(frozen=True)
class StoredShape:
    """A tensor as a file's header tells it. dtype: a name of safetensors, such as F16."""

    shape: tuple[int, ...]
    dtype: str


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON aside, then rename."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object. Raises CheckpointError if it is missing or no object."""
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is this a checkpoint folder?") from None
    except NotADirectoryError:
        raise CheckpointError(
            f"{path.parent}: is a file, must be a folder that holds {path.name}; give the folder"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); restore the file") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds {type(value).__name__}, not an object; restore it")
    return value


def build_config(kind: type[Config], values: Any, *, where: str) -> Config:
    """A configuration dataclass from JSON values, strictly."""
    remedy = "compare with a fresh config.json"
    return build_strictly(kind, values, where=where, remedy=remedy, error=CheckpointError)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped: their bytes are read at their first use.

    Raises CheckpointError if the file is missing or damaged.
    """
    with _damage_told(path):
        return load_file(path)


def read_header(path: str | Path) -> dict[str, StoredShape]:
    """The same without any tensor."""
    with _damage_told(path), safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {n: StoredShape(tuple(s.get_shape()), s.get_dtype()) for n, s in slices.items()}


@contextmanager
def _damage_told(path: str | Path) -> Generator[None]:
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file; the checkpoint is incomplete, copy it again")
    try:
        yield
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged ({error}); copy or download it again") from None


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None
) -> None:
    """Write a safetensors file. dtype: of the floating-point tensors on disk; None keeps theirs."""
    state = {}
    storages: set[int] = set()
    for name, value in tensors.items():
        value = value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        storage = value.untyped_storage().data_ptr()
        # safetensors writes no tensor that shares its memory with another.
        state[name] = value.clone() if storage in storages else value
        if value.numel():  # an empty one has nothing to share
            storages.add(storage)
    save_file(state, path, metadata={"format": "pt"})


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Fill a module, checking names and shapes first, so that nothing is half-loaded."""
    check_weights(module.state_dict(), tensors, where=where)
    module.load_state_dict(dict(tensors))


def check_weights(expected: Mapping[str, Any], tensors: Mapping[str, Any], *, where: str) -> None:
    """Raise CheckpointError unless names and shapes (of anything with `.shape`) are the same."""
    missing = sorted(set(expected) - set(tensors))
    surplus = sorted(set(tensors) - set(expected))
    if missing or surplus:
        parts = [f"missing {_some(missing)}"] * bool(missing)
        parts += [f"surplus {_some(surplus)}"] * bool(surplus)
        raise CheckpointError(
            f"{where}: {'; '.join(parts)}; the weights must match config.json, copy them again"
        )
    for name, value in expected.items():
        if tensors[name].shape != value.shape:
            raise CheckpointError(
                f"{where}: {name} has shape {list(tensors[name].shape)}, config.json says "
                f"{list(value.shape)}; use the config.json that belongs to these weights"
            )


def _some(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
