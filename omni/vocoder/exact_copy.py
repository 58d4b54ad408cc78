"""A module in float64, made once: for numbers that a window must round as the whole does."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class ExactCopy(Generic[M]):
    """Keeps the float64 copy of one module until its weights change, move or are replaced.

    No nn.Module, so that a module can hold its own: the copy is no part of its weights.
    """

    def __init__(self) -> None:
        # The copy, views of the weights that it was made of, and their counts of changes.
        self._made: tuple[M, list[Tensor], list[int]] | None = None

    def __reduce__(self) -> tuple[type[ExactCopy[M]], tuple[()]]:
        """A copy of the holder, or one read from a file, begins empty."""
        return type(self), ()

    def of(self, module: M) -> M:
        """The module in float64 and evaluation mode, without gradients."""
        weights = [*module.parameters(), *module.buffers()]
        if self._made is not None and _unchanged(weights, *self._made[1:]):
            return self._made[0]
        with torch.inference_mode(False):  # the copy is used in either mode
            exact = copy.deepcopy(module).double().eval().requires_grad_(False)
            # The views keep the weights' memory from being given to others, whose place would
            # look like theirs.
            self._made = exact, [w.detach() for w in weights], [_version(w) for w in weights]
        return exact


def _unchanged(weights: list[Tensor], before: list[Tensor], versions: list[int]) -> bool:
    return len(weights) == len(before) and all(
        weight.data_ptr() == old.data_ptr()
        and weight.dtype == old.dtype
        and _version(weight) == version
        and not weight.is_inference()  # their changes are not counted
        for weight, old, version in zip(weights, before, versions, strict=True)
    )


def _version(weight: Tensor) -> int:
    # The count that autograd checks saved tensors by; it has no public name.
    return -1 if weight.is_inference() else weight._version
