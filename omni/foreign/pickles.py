"""Unpickling by allow-list: plain data comes in, code stays out.

A pickle is a program that may call anything that it can name. Here it can name little: containers,
numbers, and small records of our own in place of numpy's. Known foreign classes become inert stubs,
which hold what the file says of an object and do nothing; their packages are never imported. Any
other name ends the reading. torch.load is told the same names (torch_files.py); the unpickler here
is for joblib's files, whose arrays lie between the pickle's own bytes, which torch can't read.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from omni.files import CheckpointError

STUB_PACKAGES = ("fairseq", "omegaconf", "argparse", "sklearn", "numpy.random")

# What damaged bytes can make an unpickler raise.
DAMAGE = (
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

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """Keeps what the pickle adds to a class that derives from list."""
        self.items.append(item)

    def extend(self, items: list[Any]) -> None:
        """Keeps several of these, in order."""
        self.items.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value


class Dtype:
    """numpy.dtype as the pickle builds it: a name, then the byte order."""

    def __init__(self, name: object = "", *_: Any) -> None:
        self.name = name  # a string, in an honest pickle
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def resolve(self) -> np.dtype:
        """Raises CheckpointError for anything but numbers: objects could hide code."""
        if not isinstance(self.name, str) or not re.fullmatch(r"[biufc]\d{1,2}", self.name):
            raise CheckpointError(
                f"array of type {self.name!r}: only numbers are read; convert it where it was made"
            )
        order = self.order if self.order in "<>" else "="
        return np.dtype(order + self.name)


class Array:
    """numpy.ndarray as the pickle builds it. state: (version, shape, dtype, fortran, bytes)."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def resolve(self) -> np.ndarray:
        """The array as numpy has it. Raises CheckpointError for anything but numbers."""
        _, shape, dtype, fortran, data = self.state
        flat = np.frombuffer(data, dtype.resolve())
        return flat.reshape(shape, order="F" if fortran else "C")


def is_foreign(name: str) -> bool:
    """Whether MODULE.CLASS is of a package whose objects become stubs."""
    return name.startswith(tuple(f"{package}." for package in STUB_PACKAGES))


def refusal(where: str | Path, *names: str) -> CheckpointError:
    """The error for a file that asks for these names."""
    return CheckpointError(
        f"{where}: refused, for it asks for {', '.join(names)}, which is neither data nor a known "
        "class of a checkpoint; get the file from its publisher, never run it"
    )


PurePython = pickle._Unpickler  # pyright: ignore[reportPrivateUsage]  # pure Python: can be ruled


class SafeUnpickler(PurePython):
    """where: what errors call the file. known: further names that the format needs."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(PurePython.dispatch)
    stack: list[Any]  # the base's

    def __init__(
        self,
        file: BinaryIO,
        *,
        where: str,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(file)
        self._where = where
        self._known = {**PLAIN, **KNOWN, **(known or {})}

    def load(self) -> Any:
        """The pickled value. Raises CheckpointError if the file is damaged or asks for code."""
        try:
            return super().load()
        except CheckpointError:
            raise
        except DAMAGE as error:
            raise CheckpointError(
                f"{self._where}: damaged, or no pickle ({type(error).__name__}: {error}); "
                "download or copy it again"
            ) from None

    def find_class(self, module: str, name: str) -> Any:
        """A known class, or a stub of a known package's; never the class itself.

        Raises CheckpointError for any other name.
        """
        module = "builtins" if module == "__builtin__" else module
        asked = f"{module}.{name}"
        if asked in self._known:
            return self._known[asked]
        if is_foreign(asked):
            return Stub
        raise refusal(self._where, asked)

    def load_build(self) -> None:
        """State goes to stubs and to our own records, and nowhere else."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (Stub, Array, Dtype)):
            target.__setstate__(state)
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


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 spells bytes."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r}")
    return text.encode("latin1")


def _scalar(dtype: Dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype.resolve(), count=1)[0]


def _plain_dict(*_: Any) -> dict[Any, Any]:
    return {}


# MODULE.NAME -> what a file gets that asks for it, beyond what torch itself allows.
KNOWN: dict[str, Any] = {
    "collections.defaultdict": _plain_dict,
    **{
        f"builtins.{kind.__name__}": kind
        for kind in (dict, list, tuple, frozenset, int, float, bool, str)
    },
    "typing.Any": Stub,
    "numpy.dtype": Dtype,
    "numpy.ndarray": Stub,
    **{
        f"numpy.{core}.multiarray.{name}": stand_in
        for core in ("core", "_core")
        for name, stand_in in (("scalar", _scalar), ("_reconstruct", Array))
    },
}
# The same of what torch allows by default.
PLAIN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "builtins.complex": complex,
    "_codecs.encode": _encode,
}
