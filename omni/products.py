"""Products with a matrix of weights, by the quicker of the two libraries that torch has for them.

On a CPU torch gives a linear layer in float32 to its BLAS, in its own wheels Intel's MKL. On other
makers' processors MKL leaves half of the vector unit unused. oneDNN, which torch brings for its
convolutions, uses all of it, and can make the same products.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.files import cache_folder, measured_once, this_machine

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # x, weight, bias

# Below so many multiply-adds a product is over before oneDNN's preparation is, some 10 µs.
WORTH_IT = 2**18
# Rows and width of the products that are timed, some hundredths of a second in all: one of a
# prompt, bound by its sums, and one of a step, bound by reading the weights.
TIMED, TRIES = ((32, 1024), (1, 2048)), 9
CLEARLY = 0.8  # oneDNN must take at most this share of the BLAS's time


class QuickLinear(nn.Linear):
    """A linear layer that takes oneDNN, in float32 on a CPU, for products that are worth it.

    It does so in inference mode alone. What trains, and what it trains on, stays bit for bit what
    it was, whatever a machine's measurement says.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        if input.numel() * self.out_features >= WORTH_IT and in_plain_inference(input, self.weight):
            return one_dnn(input, self.weight, self.bias)
        return super().forward(input)


def quicken(model: nn.Module) -> None:
    """Make every plain linear layer of the model a `QuickLinear`, if oneDNN is quicker here.

    In place: weights, their names and whatever else refers to the layers stay the same. Layers of
    other kinds (quantised, LoRA) are left as they are.
    """
    if not one_dnn_is_quicker():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = QuickLinear


def one_dnn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` by oneDNN, without gradients. x: [..., K]; weight: [N, K]; all float32, CPU."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def in_plain_inference(x: Tensor, weight: Tensor) -> bool:
    """Whether nothing can train here, and all is float32 on the CPU and meant to stay so: no
    autocast, no packed weights."""
    return (
        torch.is_inference_mode_enabled()
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and type(weight) is nn.Parameter
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def one_dnn_is_quicker() -> bool:
    """Whether oneDNN is there and clearly quicker than torch's BLAS; timed once per machine."""
    if not torch.backends.mkldnn.is_available():
        return False
    memory = cache_folder() / "products.json"
    return measured_once(memory, this_machine(), lambda: is_clearly_quicker(_timed))


def is_clearly_quicker(seconds: Callable[[Product], float]) -> bool:
    """Whether oneDNN takes clearly less time than the BLAS.

    seconds: makes a product by one of them, and gives the time that it took. The best of some
    tries counts, in turns: another program's load makes a try slower, never faster.
    """
    best: dict[Product, float] = {F.linear: math.inf, one_dnn: math.inf}
    for _ in range(1 + TRIES):  # the first one pays for set-up
        for product in best:
            best[product] = min(best[product], seconds(product))
    return best[one_dnn] <= CLEARLY * best[F.linear]


def _timed(product: Product) -> float:
    """Seconds of one product of each kind."""
    seconds = 0.0
    with torch.inference_mode():
        for rows, width in TIMED:
            x = torch.ones(rows, width, dtype=torch.float32, device="cpu")
            weight = torch.ones(width, width, dtype=torch.float32, device="cpu")
            started = time.perf_counter()
            product(x, weight, None)
            seconds += time.perf_counter() - started
    return seconds
