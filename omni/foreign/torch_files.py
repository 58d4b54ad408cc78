"""PyTorch's .pt files by torch.load: weights and plain data, mapped from disk, and never code.

torch reads what it calls weights only, and of the rest what is named to it here. Foreign classes
are named as stubs, so that their packages are never imported; any other name ends the reading.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omni.files import CheckpointError
from omni.foreign.pickles import DAMAGE, KNOWN, PLAIN, Stub, is_foreign, refusal

LEGACY_PICKLES = 5  # that a file of PyTorch before 1.6 begins with; its storages follow


def read_torch_file(path: str | Path) -> Any:
    """What `torch.save` wrote. Tensors are mapped: their bytes are read at their first use.

    Raises CheckpointError if the file is missing, damaged, or asks for more than data.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; check the path")
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    try:
        allowed: list[Any] = [(stand_in, name) for name, stand_in in KNOWN.items()]
        with torch.serialization.safe_globals(allowed):
            unsafe = (
                torch.serialization.get_unsafe_globals_in_checkpoint(path)
                if zipped
                else _legacy_globals(path)
            )
            if refused := sorted(name for name in unsafe if not is_foreign(name)):
                raise refusal(path, *refused)
        with torch.serialization.safe_globals(allowed + [(Stub, name) for name in unsafe]):
            # Legacy files can't be mapped; they are read whole.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except CheckpointError:
        raise
    except (*DAMAGE, OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: damaged, or no file of torch.save ({type(error).__name__}: "
            f"{_first_sentence(error)}); download or copy it again"
        ) from None


def read_mapping(path: str | Path, *keys: str, kind: str) -> dict[str, Any]:
    """The same for a file that must hold these keys. kind: what it should be, for errors."""
    content = read_torch_file(path)
    found = list(map(str, content)) if isinstance(content, dict) else [type(content).__name__]
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            raise CheckpointError(
                f"{path}: no {kind}, for it lacks {key!r}; it holds {', '.join(found[:6])}"
            )
    return content


def state_dict(content: dict[str, Any], key: str, path: str | Path) -> dict[str, Tensor]:
    """The weights under a key. Raises CheckpointError for anything that is no tensor."""
    weights = content[key]
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path}: {key} is a {type(weights).__name__}, not named weights")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: {key}.{name} is no tensor; get the file again")
    return {name: value.detach() for name, value in weights.items()}


def _first_sentence(error: BaseException) -> str:
    """torch's cause, without its advice to read the file with weights_only=False."""
    cause = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return cause.partition("\n")[0].partition(". ")[0]


def _legacy_globals(path: Path) -> list[str]:
    """What a legacy file asks for beyond torch's own names, of which torch decides itself."""
    names: set[str] = set()
    with path.open("rb") as file:
        for _ in range(LEGACY_PICKLES):
            for code, argument, _place in pickletools.genops(file):
                if code.name == "GLOBAL":
                    names.add(str(argument).replace(" ", ".").replace("__builtin__.", "builtins."))
    names -= KNOWN.keys() | PLAIN.keys()
    return [name for name in names if not name.startswith("torch.")]
