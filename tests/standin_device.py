"""A device that is not the CPU, for machines without one: it computes on the CPU and refuses, as
CUDA does, a computation that mixes the two."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("privateuseone", 0)  # torch's name for a device that others bring
aten = torch.ops.aten
# What moves numbers between devices; reading one number; and an index may lie on the CPU.
CROSSES = {aten._to_copy, aten.copy_, aten._local_scalar_dense}
# What has to be waited for: numbers that the CPU asks for, or sizes that hang on them.
ASKS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select}
INDEXES = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class There(Tensor):
    """A tensor on the stand-in; `here` holds its numbers."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        with torch.inference_mode(False):  # or a view of a weight could not be made in it
            made = Tensor._make_wrapper_subclass(
                cls, here.size(), here.stride(), here.storage_offset(), dtype=here.dtype,
                device=DEVICE,
            )  # fmt: skip
        made.here = here
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.here!r})"

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        if function is Tensor.tolist:  # which torch has for no subclass
            _waited("tolist")
            return args[0].here.tolist()
        if function is Tensor.numpy:
            raise MixedDevices("numpy() of a tensor of another device; copy it by cpu() first")
        if function == Tensor.data.__set__ and isinstance(args[0], There):  # type: ignore[attr-defined]
            args[0].here = args[1].here
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None):
        return compute(operation, args, kwargs or {})


class MixedDevices(RuntimeError):
    """A tensor of the CPU met one of the stand-in."""


def compute(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operation of torch, where its operands and its `device` say."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    packet = operation.overloadpacket
    from_there = there = any(isinstance(tensor, There) for tensor in tensors)
    if there and packet not in CROSSES:
        watched = tensors[:1] if packet in INDEXES else tensors
        for tensor in watched:
            # A number without dimensions goes along with any device.
            if not isinstance(tensor, There) and tensor.dim():
                raise MixedDevices(f"{operation}: {list(tensor.shape)} on {tensor.device}")
    asked = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
    if asked:
        there = asked[0].type == DEVICE.type
    elif packet is aten.copy_:
        there = isinstance(args[0], There)
    if (from_there and not there) or packet in ASKS or _chooses(packet, args):
        _waited(str(packet))
    result = operation(*tree_map(unwrapped, args), **tree_map(unwrapped, kwargs))
    if packet is aten._local_scalar_dense or not there:
        return result
    inplace = {id(t.here): t for t in tensors if isinstance(t, There)}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return inplace[id(value)] if id(value) in inplace else There(value)

    return tree_map(wrapped, result)


def _chooses(packet: Any, args: tuple[Any, ...]) -> bool:
    """Whether this picks what a mask on the stand-in says, so that its size hangs on numbers."""
    masks = [one for one in tree_leaves(args[1:]) if getattr(one, "dtype", None) is torch.bool]
    return packet is aten.index and any(isinstance(mask, There) for mask in masks)


_counts: list[list[str]] = []  # of each `waits` that runs


def _waited(what: str) -> None:
    for found in _counts:
        found.append(what)


@contextmanager
def waits() -> Iterator[list[str]]:
    """What the CPU had to wait for the stand-in for, while this lasts."""
    found: list[str] = []
    _counts.append(found)
    try:
        yield found
    finally:
        _counts.remove(found)


def unwrapped(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.here if isinstance(value, There) else value


class _Factories(TorchDispatchMode):
    """Tensors that are made on the stand-in come to be there."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None):
        return compute(operation, args, kwargs or {})


class _Copies(TorchFunctionMode):
    """torch makes these in C++ where they shall lie; here they are made and then brought."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        kwargs = dict(kwargs or {})
        device = kwargs.pop("device", None) if function in (torch.tensor, torch.as_tensor) else None
        made = function(*args, **kwargs)
        return made if device is None else made.to(device)


class _Guard(torch._C._acc.DeviceGuard):
    """What torch's own code in C++ asks for before it works on a device."""

    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.PrivateUse1


torch._C._acc.register_python_privateuseone_device_guard(_Guard())  # for good: torch forgets none


class _Backend:
    """What torch asks the module of a device for."""

    @staticmethod
    def is_initialized() -> bool:
        return True

    is_available = is_initialized

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """It draws on the CPU."""

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


@contextmanager
def standin_device() -> Iterator[torch.device]:
    """The stand-in, which takes tensors while this lasts."""
    torch._register_device_module(DEVICE.type, _Backend)
    try:
        with _Factories(), _Copies():
            yield DEVICE
    finally:
        del sys.modules[f"torch.{DEVICE.type}"], torch.__dict__[DEVICE.type]
