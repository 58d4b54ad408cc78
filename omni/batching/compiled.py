"""Steps compiled ahead of time, each for a buffer of one size.

A compiled step holds for its sizes alone, so there are few of them, made before anybody waits: see
`compile_step`. A step whose buffer has none of these sizes runs as it always does, and never waits
for a compiler.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from omni.files import cache_folder

log = logging.getLogger(__name__)

# A step of a whole buffer: (part, input [slots, 1, H], lengths [slots], keys and values of each
# layer, [slots, heads, capacity, head_dim], written in place) -> tensors [slots, ...].
Step = FunctionType
Backend = str | Callable[..., Any]  # of torch.compile
Storage = tuple[Tensor, Tensor]  # keys and values, [layers, slots, heads, capacity, head_dim]


class Size(NamedTuple):
    """Of a buffer: sequences, and positions of each."""

    slots: int
    capacity: int


@dataclass(frozen=True, kw_only=True)
class BufferKind:
    """What a part's buffer holds of a position, and the input that its step reads."""

    layers: int
    heads: int
    head_dim: int
    input_width: int
    dtype: torch.dtype
    device: torch.device

    def storage(self, size: Size) -> Storage:
        """Zeros."""
        shape = self.layers, size.slots, self.heads, size.capacity, self.head_dim
        return (
            torch.zeros(shape, dtype=self.dtype, device=self.device),
            torch.zeros(shape, dtype=self.dtype, device=self.device),
        )


class CompiledSteps:
    """The compiled step of one part, and its buffers, which stay for the next that need one.

    failed: why there is none any more, None if nothing went wrong.
    """

    def __init__(self, kind: BufferKind, step: Step, *, backend: Backend = "inductor") -> None:
        self.kind = kind
        self.failed: str | None = None
        self._step = step
        self._backend = backend
        self._compiled: dict[Size, Callable[..., tuple[Tensor, ...]]] = {}
        self._free: dict[Size, list[Storage]] = {}

    @property
    def sizes(self) -> list[Size]:
        """Those that are compiled, the smallest first."""
        return sorted(self._compiled, key=lambda size: (size.slots * size.capacity, size.slots))

    def fitting(self, slots: int, positions: int) -> Size | None:
        """The smallest size with room for these; None if there is none."""
        return next((s for s in self.sizes if s.slots >= slots and s.capacity >= positions), None)

    def take(self, size: Size) -> Storage:
        """A buffer of zeros, which nobody else has until it is given back."""
        if free := self._free.get(size):
            storage = free.pop()
            for tensor in storage:
                tensor.zero_()
            return storage
        return self.kind.storage(size)

    def give(self, storage: Storage) -> None:
        """The buffer is needed no more. It is kept: CUDA graphs hold for its address alone."""
        size = Size(storage[0].shape[1], storage[0].shape[3])
        if size in self._compiled:
            self._free.setdefault(size, []).append(storage)

    @torch.inference_mode()
    def warm_up(self, part: nn.Module, size: Size) -> None:
        """Compile the step for this size, and run it.

        What fails is told once, and nothing is compiled any more.
        """
        if self.failed is not None or size in self._compiled:
            return
        storage = self.kind.storage(size)
        inputs = self._inputs(size)
        try:
            if self._backend == "inductor" and self.kind.device.type == "cpu":
                _need_compiler()
            # What is made at a first call, such as tables of rotations, is made outside.
            self._step(part, *inputs, *storage)
            compiled = _compiled(self._step, size, self._backend, self.kind.device)
            for _ in range(2 if self.kind.device.type == "cpu" else 3):  # the last two record
                _call(compiled, part, *inputs, storage)
        except Exception as error:
            self._fail(error)
        else:
            self._compiled[size] = compiled
            self.give(storage)

    def run(
        self, part: nn.Module, inputs: Sequence[Tensor], lengths: Sequence[int], storage: Storage
    ) -> tuple[Tensor, ...] | None:
        """A step of the sequences that fill the first rows of a buffer.

        inputs: [1, 1, H] of each; lengths: of each, before the step. Gives back what the step
        makes of these rows. None where it is not compiled for a buffer of this size.
        """
        size = Size(storage[0].shape[1], storage[0].shape[3])
        if (compiled := self._compiled.get(size)) is None:
            return None
        padded, counted = self._inputs(size)
        padded[: len(inputs)] = torch.cat([*inputs])
        counted[: len(lengths)] = torch.tensor(lengths)
        try:
            # A part that has changed since, say its adapters, is no reason to wait now.
            with torch.compiler.set_stance("eager_on_recompile"):
                made = _call(compiled, part, padded, counted, storage)
        except Exception as error:
            self._fail(error)
            return None
        return tuple(tensor[: len(inputs)] for tensor in made)

    def _inputs(self, size: Size) -> tuple[Tensor, Tensor]:
        """Zeros: a row that nobody has is stepped from its first position, and seen by nobody."""
        kind = self.kind
        return (
            torch.zeros(size.slots, 1, kind.input_width, dtype=kind.dtype, device=kind.device),
            torch.zeros(size.slots, dtype=torch.int64, device=kind.device),
        )

    def _fail(self, error: Exception) -> None:
        # Two lines: the first of a compiler's may only say whose error follows.
        said = [line.strip() for line in str(error).splitlines() if line.strip()][:2]
        self.failed = " ".join([f"{type(error).__name__}:", *said])
        self._compiled.clear()
        self._free.clear()
        log.warning(
            "%s is not compiled and runs as it is, which changes no reply: %s. Mend it, or leave "
            "compilation out",
            self._step.__name__.replace("_", " "),
            self.failed,
        )


_OF_PARTS: WeakKeyDictionary[nn.Module, CompiledSteps] = WeakKeyDictionary()
_LOCK = threading.Lock()


def compiled_steps(part: nn.Module) -> CompiledSteps | None:
    """Those of this part, as long as it lives; None where nothing was compiled."""
    return _OF_PARTS.get(part)


def compile_step(
    part: nn.Module,
    steps: CompiledSteps,
    sizes: Sequence[Size],
    progress: Callable[[], object] = lambda: None,
) -> CompiledSteps:
    """Compile a part's step for buffers of these sizes; from now on they are used.

    progress: called after each of them.
    Takes some seconds to minutes for each size. What the compiler makes is kept in the user's cache
    folder (or in TORCHINDUCTOR_CACHE_DIR), so that the next start takes a part of it.
    """
    # torch reads it when it compiles.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    with _LOCK:
        known = _OF_PARTS.setdefault(part, steps)
    for size in sizes:
        known.warm_up(part, size)
        progress()
    return known


def _compiled(step: Step, size: Size, backend: Backend, device: torch.device) -> Callable[..., Any]:
    # A function of its own for each size: torch compiles one for few sizes, and tries all of them
    # at each call.
    name = f"{step.__name__}_{size.slots}x{size.capacity}"
    own = FunctionType(step.__code__.replace(co_name=name), step.__globals__, name)
    on_gpu = backend == "inductor" and device.type == "cuda"
    return torch.compile(
        own, fullgraph=True, dynamic=False, backend=backend,
        mode="reduce-overhead" if on_gpu else None,  # by CUDA graphs
    )  # fmt: skip


def _call(
    compiled: Callable[..., tuple[Tensor, ...]],
    part: nn.Module,
    inputs: Tensor,
    lengths: Tensor,
    storage: Storage,
) -> tuple[Tensor, ...]:
    keys, values = (_apart(tensor) for tensor in storage)
    if inputs.device.type != "cuda":
        return compiled(part, inputs, lengths, keys, values)
    for tensor in (*keys, *values):  # else a graph would copy the buffer before each replay
        torch._dynamo.mark_static_address(tensor, guard=False)  # pyright: ignore[reportPrivateUsage]  # there is no public way
    torch.compiler.cudagraph_mark_step_begin()
    # Copies: the next replay overwrites what this one made.
    return tuple(tensor.clone() for tensor in compiled(part, inputs, lengths, keys, values))


def _apart(stacked: Tensor) -> list[Tensor]:
    """The layers of a buffer, same memory, as tensors that torch does not know to be parts of one:
    a part that is written in place would cost a copy of the whole."""
    return [torch.from_dlpack(layer) for layer in stacked]


def _need_compiler() -> None:
    """Raises RuntimeError where torch finds no compiler for C++, which compiling for CPUs takes."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl"]
    if not any(name and shutil.which(name) for name in names):
        raise RuntimeError("no C++ compiler here; install g++ (build-essential), or set CXX to one")
