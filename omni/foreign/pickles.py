"""Unpickling by allow-list: plain data and tensors come in, code stays out.

A pickle is a program that may call anything that it can name. Here it can name little: containers,
numbers, and our own small functions in place of torch's and numpy's. Known foreign classes become
inert stubs, which hold what the file says of an object and do nothing; their packages are never
imported. Any other name ends the reading.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar

import numpy as np

from omni.files import CheckpointError
from omni.foreign.stream import Storage, StoredTensor

STUB_PACKAGES = ("fairseq", "omegaconf", "argparse", "sklearn", "numpy.random")

# What damaged bytes can make an unpickler raise.
_DAMAGE = (
    pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError,
    OverflowError, AssertionError, RecursionError, MemoryError, struct.error,
)  # fmt: skip


class Stub:
    """An object of a class that is not here: its arguments, its state, no behaviour."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments = (*arguments, *named.values())
        self.state: Any = None
        self.items: list[Any] = []
        self.entries: dict[Any, Any] = {}

    def __new__(cls, *_: Any, **__: Any) -> Stub:
        """Takes whatever the pickle builds it from, and keeps none of it."""
        stub = super().__new__(cls)
        Stub.__init__(stub)  # the pickle opcode NEWOBJ never calls __init__
        return stub

    def append(self, item: Any) -> None:
        """Keeps what the pickle adds to a class that derives from list."""
        self.items.append(item)

    def extend(self, items: list[Any]) -> None:
        """Keeps several of these, in order."""
        self.items.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value


@dataclass(frozen=True)
class StorageType:
    """torch.HalfStorage and its kin: only the type of the elements matters."""

    dtype: str


@dataclass
class Dtype:
    """numpy.dtype as the pickle builds it: a name, then the byte order."""

    name: object  # a string, in an honest pickle
    order: str = "<"

    def resolve(self) -> np.dtype:
        """Raises CheckpointError for anything but numbers: objects could hide code."""
        if not isinstance(self.name, str) or not re.fullmatch(r"[biufc]\d{1,2}", self.name):
            raise CheckpointError(
                f"array of type {self.name!r}: only numbers are read; convert it where it was made"
            )
        order = self.order if self.order in "<>" else "="
        return np.dtype(order + self.name)


@dataclass
class Array:
    """numpy.ndarray as the pickle builds it. state: (version, shape, dtype, fortran, bytes)."""

    state: Any = field(default=None)

    def resolve(self) -> np.ndarray:
        """The array as numpy has it. Raises CheckpointError for anything but numbers."""
        _, shape, dtype, fortran, data = self.state
        flat = np.frombuffer(data, dtype.resolve())
        return flat.reshape(shape, order="F" if fortran else "C")


_Unpickler = pickle._Unpickler  # pyright: ignore[reportPrivateUsage]  # pure Python: can be ruled


class SafeUnpickler(_Unpickler):
    """where: what errors call the file. known: further names that the format needs."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_Unpickler.dispatch)
    stack: list[Any]  # the base's

    def __init__(
        self,
        file: BinaryIO,
        *,
        where: str,
        known: Mapping[tuple[str, str], Any] | None = None,
        storage: Callable[[Any], Storage] | None = None,
    ) -> None:
        super().__init__(file)
        self._where = where
        self._known = {**_KNOWN, **(known or {})}
        self._storage = storage

    def load(self) -> Any:
        """The pickled value. Raises CheckpointError if the file is damaged or asks for code."""
        try:
            return super().load()
        except CheckpointError:
            raise
        except _DAMAGE as error:
            raise CheckpointError(
                f"{self._where}: damaged, or no pickle ({type(error).__name__}: {error}); "
                "download or copy it again"
            ) from None

    def find_class(self, module: str, name: str) -> Any:
        """A known class, or a stub of a known package's; never the class itself.

        Raises CheckpointError for any other name.
        """
        module = "builtins" if module == "__builtin__" else module
        if (module, name) in self._known:
            return self._known[module, name]
        if any(module == p or module.startswith(p + ".") for p in STUB_PACKAGES):
            return type(name, (Stub,), {"__module__": module})
        raise CheckpointError(
            f"{self._where}: refused, for it asks for {module}.{name}, which is neither data nor a "
            "known class of a checkpoint; get the file from its publisher, never run it"
        )

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a torch pickle refers to by `pid`.

        Raises CheckpointError in a pickle that has nothing outside itself.
        """
        if self._storage is None:
            raise CheckpointError(f"{self._where}: refers to data outside the pickle; get it again")
        return self._storage(pid)

    def load_build(self) -> None:
        """State goes to stubs and to our own records, and nowhere else."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (Stub, Array)):
            target.state = state
        elif isinstance(target, Dtype):
            target.order = str(state[1])
        elif not isinstance(target, OrderedDict):  # torch's state dicts carry versions there
            raise CheckpointError(
                f"{self._where}: refused, for it sets the state of a {type(target).__name__}"
            )

    dispatch[pickle.BUILD[0]] = load_build


def unwrap(value: Any) -> Any:
    """Settings as plain values: argparse's namespaces and omegaconf's nodes among them."""
    if isinstance(value, Stub):
        state = value.state if isinstance(value.state, dict) else value.entries
        if "_content" in state:  # omegaconf's DictConfig, ListConfig
            return unwrap(state["_content"])
        return unwrap(state.get("_val", state))  # a node, a Namespace
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items() if key != "_parent"}
    if isinstance(value, (list, tuple)):
        return [unwrap(item) for item in value]
    return value


def _rebuild_tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without a storage")
    return StoredTensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: StoredTensor, *_: Any) -> StoredTensor:
    return tensor


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 spells bytes."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r}")
    return text.encode("latin1")


def _dtype(name: str, *_: Any) -> Dtype:
    return Dtype(name)


def _scalar(dtype: Dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype.resolve(), count=1)[0]


def _array(*_: Any) -> Array:
    return Array()


def _plain_dict(*_: Any) -> dict[Any, Any]:
    return {}


def _inert(name: str) -> type[Stub]:
    return type(name, (Stub,), {})


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): _plain_dict,
    **{
        ("builtins", kind.__name__): kind
        for kind in (dict, list, tuple, set, frozenset, int, float, complex, bool, str)
    },
    ("typing", "Any"): _inert("Any"),
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    ("torch", "device"): _inert("device"),
    **{
        ("torch", f"{name}Storage"): StorageType(dtype)
        for name, dtype in {
            "Double": "F64", "Float": "F32", "Half": "F16", "BFloat16": "BF16", "Long": "I64",
            "Int": "I32", "Short": "I16", "Char": "I8", "Byte": "U8", "Bool": "BOOL",
        }.items()
    },
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _inert("ndarray"),
    **{
        (f"numpy.{core}.multiarray", name): function
        for core in ("core", "_core")
        for name, function in (("scalar", _scalar), ("_reconstruct", _array))
    },
}  # fmt: skip
