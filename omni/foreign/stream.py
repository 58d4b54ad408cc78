"""Tensors that stay in their files: read, checked and copied piece by piece.

A 16 GB checkpoint is renamed and regrouped without ever being in memory: what a conversion holds
is one copy buffer, or one tensor where it has to be computed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from omni.files import CheckpointError, read_json

Progress = Callable[[int], object]  # told of every n bytes written

COPY_BYTES = 8 << 20  # of the buffer that tensors are copied through
HEADER_LIMIT = 100_000_000  # bytes, safetensors' own limit

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass
class Storage:
    """A run of elements in a file. start: byte where it begins; legacy .pt files say it last."""

    path: Path
    dtype: str  # a name of DTYPES
    elements: int
    start: int

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that still lies in its file. offset and strides count elements of the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        sizes = (self.offset, *self.shape, *self.strides)
        last = sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if min(sizes) < 0 or (self.elements and self.offset + last >= self.storage.elements):
            raise CheckpointError(
                f"{self.storage.path}: a tensor of shape {list(self.shape)} lies outside its "
                f"storage of {self.storage.elements} elements; the file is damaged, get it again"
            )

    @property
    def dtype(self) -> str:
        """A name of DTYPES."""
        return self.storage.dtype

    @property
    def elements(self) -> int:
        """How many the tensor has, whatever its storage has."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor when it is written out contiguously."""
        return self.elements * self.storage.itemsize

    def read(self) -> Tensor:
        """The tensor, in memory of its own."""
        if not self.elements:
            return torch.empty(self.shape, dtype=DTYPES[self.dtype])
        span = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        buffer = bytearray(span * self.storage.itemsize)
        self._read_into(memoryview(buffer), self._first_byte)
        flat = torch.frombuffer(buffer, dtype=DTYPES[self.dtype])
        return flat.as_strided(self.shape, self.strides).contiguous()

    def pieces(self) -> Iterator[memoryview | bytes]:
        """Its bytes in C order, at most COPY_BYTES at a time; a transposed one in one piece."""
        if self.strides != contiguous_strides(self.shape):
            yield _bytes_of(self.read())
            return
        buffer = bytearray(min(COPY_BYTES, self.nbytes))
        for done in range(0, self.nbytes, COPY_BYTES):
            piece = memoryview(buffer)[: min(COPY_BYTES, self.nbytes - done)]
            self._read_into(piece, self._first_byte + done)
            yield piece

    @property
    def _first_byte(self) -> int:
        return self.storage.start + self.offset * self.storage.itemsize

    def _read_into(self, target: memoryview, position: int) -> None:
        with self.storage.path.open("rb") as file:
            file.seek(position)
            if file.readinto(target) != len(target):
                raise CheckpointError(f"{self.storage.path}: cut short; download or copy it again")


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[2, 3, 4] -> [12, 4, 1]."""
    return tuple(prod(shape[place + 1 :]) for place in range(len(shape)))


def read_safetensors(path: str | Path) -> dict[str, StoredTensor]:
    """The tensors of one file, unread. Raises CheckpointError if its header and size disagree."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; the checkpoint is incomplete, get it again")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, HEADER_LIMIT):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return {name: _entry(path, entry, 8 + length, size) for name, entry in header.items()}
    except CheckpointError:
        raise
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: no whole safetensors file ({error}); download or copy it again"
        ) from None


def _entry(path: Path, entry: dict[str, Any], data: int, size: int) -> StoredTensor:
    shape = tuple(int(n) for n in entry["shape"])
    begin, end = entry["data_offsets"]
    if entry["dtype"] not in DTYPES:
        raise CheckpointError(
            f"{path}: tensors of type {entry['dtype']} are not known; known: {', '.join(DTYPES)}"
        )
    storage = Storage(path, entry["dtype"], prod(shape), data + begin)
    if begin < 0 or end - begin != storage.elements * storage.itemsize:
        raise ValueError(f"shape {list(shape)} in {end - begin} bytes")
    if data + end > size:
        raise CheckpointError(
            f"{path}: cut short, {size} of at least {data + end} bytes; download or copy it again"
        )
    return StoredTensor(storage, 0, shape, contiguous_strides(shape))


def read_folder(folder: str | Path) -> dict[str, StoredTensor]:
    """The tensors of model.safetensors, or of the shards that model.safetensors.index.json lists.

    Raises CheckpointError, naming the file or tensor that is missing or surplus.
    """
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return read_safetensors(folder / "model.safetensors")
    homes = read_json(index).get("weight_map")
    if not isinstance(homes, dict) or not all(_plain_name(home) for home in homes.values()):
        raise CheckpointError(
            f"{index}: weight_map must map tensors to files beside it; restore it"
        )
    tensors: dict[str, StoredTensor] = {}
    for home in sorted(set(homes.values())):
        shard = read_safetensors(folder / home)
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


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, StoredTensor | Tensor],
    progress: Progress | None = None,
) -> None:
    """Write one file, holding no more than one piece of it in memory."""
    # Widest types first, as safetensors itself does: every tensor is then aligned.
    order = sorted(tensors, key=lambda name: -DTYPES[_dtype(tensors[name])].itemsize)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name in order:
        tensor = tensors[name]
        end = position + tensor.nbytes
        header[name] = {
            "dtype": _dtype(tensor),
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with Path(path).open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name in order:
            _copy(tensors[name], file, progress)


def _copy(tensor: StoredTensor | Tensor, file: BinaryIO, progress: Progress | None) -> None:
    pieces = tensor.pieces() if isinstance(tensor, StoredTensor) else iter([_bytes_of(tensor)])
    for piece in pieces:
        file.write(piece)
        if progress is not None:
            progress(len(piece))


def _dtype(tensor: StoredTensor | Tensor) -> str:
    return tensor.dtype if isinstance(tensor, StoredTensor) else NAMES[tensor.dtype]


def _bytes_of(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def total_bytes(tensors: Mapping[str, StoredTensor | Tensor]) -> int:
    """What `write_safetensors` will tell its progress in all."""
    return sum(tensor.nbytes for tensor in tensors.values())
