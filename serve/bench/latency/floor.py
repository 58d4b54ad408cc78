"""What a machine can't beat: bytes of weights over its bandwidth, operations over its rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from omni.products import quicken
from serve.bench.latency.answer import Clock

TRIES = 7  # the best counts: another program's load makes a try slower, never faster
# Rows and columns of the matrix-vector product, width of the product of matrices: they outgrow a
# cache and fill the device, and take tenths of a second.
CPU_PROBE = ((4096, 16_384), 1024)
GPU_PROBE = ((32_768, 16_384), 8192)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of this machine, in the type of the weights: a matrix-vector product, whose matrix is read
    once, and a product of matrices, two operations per multiply-add."""

    gb_per_s: float
    gflop_per_s: float

    def floor_ms(self, weight_bytes: int, flop: int) -> float:
        """The least time: the weights are read once, or the sums are made at the full rate."""
        return max(weight_bytes / self.gb_per_s, flop / self.gflop_per_s) / 1e6


def probe(device: torch.device, dtype: torch.dtype, clock: Clock) -> Speed:
    """Two small products, timed, by the quickest library that a model's layers use here."""
    (rows, columns), width = CPU_PROBE if device.type == "cpu" else GPU_PROBE
    reading = _layer(columns, rows, device, dtype)
    summing = _layer(width, width, device, dtype)
    vector = torch.ones(1, columns, device=device, dtype=dtype)
    square = torch.ones(width, width, device=device, dtype=dtype)
    with torch.inference_mode():
        reading_ms = _best_ms(clock, lambda: reading(vector))
        summing_ms = _best_ms(clock, lambda: summing(square))
    return Speed(
        gb_per_s=reading.weight.nbytes / reading_ms / 1e6,
        gflop_per_s=2 * width**3 / summing_ms / 1e6,
    )


def _layer(wide: int, high: int, device: torch.device, dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(wide, high, bias=False, device=device, dtype=dtype)
    quicken(layer)
    return layer


def _best_ms(clock: Clock, product: Callable[[], object]) -> float:
    best = math.inf
    for _ in range(1 + TRIES):  # the first one pays for set-up
        started = clock()
        product()
        best = min(best, clock() - started)
    return best


def weight_bytes(part: nn.Module) -> int:
    """Bytes of a part's weights but its embeddings, of which a row is read, not the table."""
    tables = {id(m.weight) for m in part.modules() if isinstance(m, nn.Embedding)}
    return sum(weight.nbytes for weight in part.parameters() if id(weight) not in tables)


def flop_counter() -> FlopCounterMode:
    """Counts the operations of products, convolutions and attention within its block."""
    # torch counts the attention of a GPU alone, and of the products those of its BLAS.
    mapping: dict[Any, Callable[..., int]] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
        torch.ops.mkldnn._linear_pointwise: _linear_flop,
        torch.ops.mkldnn._convolution_pointwise: _convolution_flop,
        torch.ops.mkldnn._convolution_transpose_pointwise: _transposed_flop,
    }
    return FlopCounterMode(display=False, custom_mapping=mapping)


def _attention_flop(
    queries: Sequence[int], keys: Sequence[int], values: Sequence[int], *_: Any, **__: Any
) -> int:
    """Shapes [B, heads, n, head_dim] -> operations of both products."""
    batch, heads, asking, width = queries
    return 2 * batch * heads * asking * keys[2] * (width + values[3])


def _linear_flop(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """Shapes [..., K] and [N, K] -> operations."""
    return 2 * math.prod(x) * weight[0]


def _convolution_flop(
    x: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any
) -> int:
    """Shapes [B, C, 1, n], [C', C, 1, kernel] and [B, C', 1, m] -> operations."""
    return 2 * math.prod(out_shape) * x[1] * weight[-1]


def _transposed_flop(
    x: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any
) -> int:
    """The same where each input, not each output, meets the whole kernel."""
    return 2 * math.prod(x) * out_shape[1] * weight[-1]
