"""A folder's tensors, mapped from its files: read, checked and written without being in memory.

safetensors maps a file and reads a tensor's bytes at their first use, so a 16 GB checkpoint is
renamed and regrouped in the memory of its largest copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor

from omni.files import CheckpointError, read_json, read_tensors, write_json, write_tensors

Progress = Callable[[int], object]  # told of every n bytes written

SHARD_BYTES = 2_000_000_000  # of one file: progress is told, and a stop is heard, after each


def read_folder(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of model.safetensors, or of the shards that model.safetensors.index.json lists.

    Raises CheckpointError, naming the file or tensor that is missing or surplus.
    """
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return read_tensors(folder / "model.safetensors")
    homes = read_json(index).get("weight_map")
    if not isinstance(homes, dict) or not all(_plain_name(home) for home in homes.values()):
        raise CheckpointError(
            f"{index}: weight_map must map tensors to files beside it; restore it"
        )
    tensors: dict[str, Tensor] = {}
    for home in sorted(set(homes.values())):
        shard = read_tensors(folder / home)
        listed = {name for name, file in homes.items() if file == home}
        if missing := sorted(listed - shard.keys()):
            raise CheckpointError(f"{folder / home}: {missing[0]} is missing; get the shard again")
        if surplus := sorted(shard.keys() - listed):
            raise CheckpointError(
                f"{folder / home}: {surplus[0]} is not in {index.name}; get both again"
            )
        tensors |= shard
    return tensors


def _plain_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name


def write_folder(
    folder: str | Path,
    tensors: Mapping[str, Tensor],
    progress: Progress | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """model.safetensors, or shards and their index, as `read_folder` and transformers read them."""
    folder = Path(folder)
    plan = split_torch_state_dict_into_shards(dict(tensors), max_shard_size=shard_bytes)
    for file, names in plan.filename_to_tensors.items():
        shard = {name: tensors[name] for name in names}
        write_tensors(folder / file, shard)
        if progress is not None:
            progress(total_bytes(shard))
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)


def total_bytes(tensors: Mapping[str, Tensor]) -> int:
    """What `write_folder` will tell its progress in all."""
    return sum(tensor.nbytes for tensor in tensors.values())
