"""A module in float64, made once: for numbers that a window must round as the whole does."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from omni.vocoder.made_once import Derived

M = TypeVar("M", bound=nn.Module)


class ExactCopy(Derived[M]):
    """Keeps the float64 copy of one module."""

    def of(self, module: M) -> M:
        """The module in float64 and evaluation mode, without gradients."""
        return self.kept(
            [*module.parameters(), *module.buffers()],
            lambda: copy.deepcopy(module).double().eval().requires_grad_(False),
        )
