"""PyTorch's .pt files without torch.load: plain values, and tensors that stay in the file."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from omni.files import CheckpointError
from omni.foreign.pickles import SafeUnpickler, StorageType
from omni.foreign.stream import Storage, StoredTensor

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip entry: lengths of its name and extra field


def read_torch_file(path: str | Path) -> Any:
    """What `torch.save` wrote; every tensor as a StoredTensor.

    Raises CheckpointError if the file is missing, damaged, or asks for more than data.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; check the path")
    if zipfile.is_zipfile(path):
        return _read_zip(path)
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            raise CheckpointError(f"{path}: cut short, its table is missing; download it again")
        file.seek(0)
        return _read_legacy(path, file)


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


def state_dict(content: dict[str, Any], key: str, path: str | Path) -> dict[str, StoredTensor]:
    """The weights under a key. Raises CheckpointError for anything that is no tensor."""
    weights = content[key]
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path}: {key} is a {type(weights).__name__}, not named weights")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            raise CheckpointError(f"{path}: {key}.{name} is no tensor; get the file again")
    return dict(weights)


def _read_zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = {entry.filename: entry for entry in archive.infolist()}
            pickled = [name for name in entries if name.endswith("/data.pkl")]
            if len(pickled) != 1:
                raise CheckpointError(f"{path}: a zip file, but not one of torch.save")
            root = pickled[0][: -len("data.pkl")]
            if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
                raise CheckpointError(f"{path}: big-endian; save it again on a common machine")

            def storage(pid: Any) -> Storage:
                dtype, key, elements = _storage_id(pid)
                entry = entries[f"{root}data/{key}"]
                found = Storage(path, dtype, elements, _start(file, entry))
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < (
                    elements * found.itemsize
                ):
                    raise CheckpointError(f"{path}: storage {key} is not whole; get the file again")
                return found

            data = io.BytesIO(archive.read(pickled[0]))
            return SafeUnpickler(data, where=str(path), storage=storage).load()
    except (zipfile.BadZipFile, struct.error, NotImplementedError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); download or copy it again") from None


def _start(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where an entry's data begins: its own header may be longer than the table says."""
    file.seek(entry.header_offset)
    name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return entry.header_offset + _LOCAL_HEADER.size + name + extra


def _storage_id(pid: Any) -> tuple[str, str, int]:
    """('storage', type, key, device, elements[, view]) -> type of the elements, key, elements."""
    word, kind, key, _, elements, *view = pid
    if word != "storage" or not isinstance(kind, StorageType) or any(v is not None for v in view):
        raise ValueError(f"storage {pid!r}")
    return kind.dtype, str(key), int(elements)


def _read_legacy(path: Path, file: BinaryIO) -> Any:
    """Before PyTorch 1.6: five pickles in a row, then all storages, each behind its size."""
    where = str(path)
    storages: dict[str, Storage] = {}

    def storage(pid: Any) -> Storage:
        dtype, key, elements = _storage_id(pid)
        return storages.setdefault(key, Storage(path, dtype, elements, 0))

    if SafeUnpickler(file, where=where).load() != LEGACY_MAGIC:
        raise CheckpointError(f"{path}: no file of torch.save; check the path")
    for _ in ("protocol", "system"):
        SafeUnpickler(file, where=where).load()
    content = SafeUnpickler(file, where=where, storage=storage).load()
    keys = SafeUnpickler(file, where=where).load()
    size = path.stat().st_size
    for key in keys:
        held = storages.get(str(key))
        header = file.read(8)
        held_bytes = held.elements * held.itemsize if held else 0
        if held is None or len(header) < 8 or file.tell() + held_bytes > size:
            raise CheckpointError(f"{path}: cut short at storage {key}; download or copy it again")
        held.start = file.tell()
        file.seek(held_bytes, io.SEEK_CUR)
    if missing := [key for key, held in storages.items() if held.start == 0]:
        raise CheckpointError(f"{path}: storage {missing[0]} is missing; download it again")
    return content
