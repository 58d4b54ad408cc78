"""What was made of some weights, kept until they change, move or are replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")


class Derived(Generic[R]):
    """Keeps the last result that was made of some weights.

    No nn.Module, so that a module can hold its own: what is kept is no part of its weights.
    """

    def __init__(self) -> None:
        # The result, views of the weights that it was made of, and their counts of changes.
        self._made: tuple[R, list[Tensor], list[int]] | None = None

    def __reduce__(self) -> tuple[type[Derived[R]], tuple[()]]:
        """A copy of the holder, or one read from a file, begins empty."""
        return type(self), ()

    def kept(self, weights: Sequence[Tensor], make: Callable[[], R]) -> R:
        """The result that `make` gives for these weights, without gradients."""
        if self._made is not None and _unchanged(weights, *self._made[1:]):
            return self._made[0]
        with torch.inference_mode(False), torch.no_grad():  # it is used in either mode
            result = make()
            # The views keep the weights' memory from being given to others, whose place would
            # look like theirs.
            self._made = result, [w.detach() for w in weights], [_version(w) for w in weights]
        return result


def _unchanged(weights: Sequence[Tensor], before: list[Tensor], versions: list[int]) -> bool:
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
