"""The folder on disk: write aside, rename, read back, and say exactly what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omni.files.writing import write_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, the rule and the remedy."""


@dataclass(frozen=True)
class ReadFrom:
    """The checkpoint that a model was read from. name: as given; folder: where its files lie."""

    name: str
    folder: Path


@contextmanager
def replace_folder(folder: str | Path) -> Generator[Path]:
    """Write a folder aside and rename it when complete: readers never see half of it.

    If writing fails, the folder stays as it was. Its files get the rights that a new file gets:
    safetensors writes for the owner's eyes alone, and who serves is often another user.
    """
    folder = Path(folder)
    aside = folder.with_name(f".{folder.name}.part")
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        old.rename(folder)  # a kill fell between the two renames below
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    rights = aside.stat().st_mode & 0o666
    for file in aside.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(file.stat().st_mode | rights)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


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
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); restore the file") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds {type(value).__name__}, not an object; restore it")
    return value


def build_config(kind: type[Config], values: object, *, where: str) -> Config:
    """A configuration dataclass from JSON values; unknown keys are refused by name."""
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{where}={values!r}: must be an object; compare with a fresh config")
    known = {field.name for field in fields(kind)}
    for key in values:
        if key not in known:
            raise CheckpointError(
                f"{where}: unknown key {key!r}; known are {', '.join(sorted(known))}"
            )
    try:
        return kind(**values)
    except TypeError as error:
        raise CheckpointError(f"{where}: {error}; compare with a fresh config.json") from None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises CheckpointError if it is missing or damaged."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; the checkpoint is incomplete, copy it again")
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own class, not exported as a public name
        raise CheckpointError(f"{path}: damaged ({error}); copy or download it again") from None


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None
) -> None:
    """Write a safetensors file. dtype: of the floating-point tensors on disk; None keeps theirs."""
    state = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for name, value in tensors.items()
    }
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
