"""Causal Llama layers on torch alone, whole and step by step: the unit decoder is made of them.

Parameter names are those of the Llama layers that LLaMA-Omni's `speech_generator` holds, so its
weights load unchanged (Touvron et al. 2023; rotary positions: Su et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class KeyValueCache(Protocol):
    """Where a layer's attention keeps the keys and values of the steps before."""

    mask: Tensor  # [B, 1, s, all], added to scores: 0 where a new step may look, else -infinity

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Store [B, heads, s, head_dim] of the new steps; give back those of all steps."""
        ...


class LlamaLayer(nn.Module):
    """Attention and a gated feed-forward net, each behind a norm and beside a residual."""

    def __init__(self, *, width: int, heads: int, ffn: int, rms_norm_eps: float) -> None:
        super().__init__()
        self.self_attn = CausalSelfAttention(width, heads)
        self.mlp = GatedFeedForward(width, ffn)
        self.input_layernorm = nn.RMSNorm(width, eps=rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """[B, s, width] -> the same shape.

        rotation: of the positions, from `RotaryPositions`. cache: None sees x alone, each step
        those before it; else x continues what the cache holds of this layer.
        """
        x = x + self.self_attn(self.input_layernorm(x), rotation, cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class CausalSelfAttention(nn.Module):
    """Every head has keys and values of its own, and nothing looks ahead."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], cache: KeyValueCache | None, layer: int
    ) -> Tensor:
        """x: [B, s, D] of the new positions -> [B, s, D].

        rotation: cosines and sines of these positions. cache: keys and values of this and earlier
        positions, to which `layer`'s new ones are added; None where x is the whole sequence.
        """
        queries, keys, values = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, s, head_dim]
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries, keys = rotate(queries, rotation), rotate(keys, rotation)
        if cache is None:
            seen = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        else:
            keys, values = cache.update(keys, values, layer)
            seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=cache.mask)
        return self.o_proj(seen.transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, ffn, bias=False)
        self.up_proj = nn.Linear(width, ffn, bias=False)
        self.down_proj = nn.Linear(ffn, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, s, D] -> [B, s, D]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class RotaryPositions:
    """Position -> the rotation of each pair of a head's values.

    No module: casting a model to bfloat16 or building it on the meta device would spoil the
    frequencies, which must stay float32.
    """

    def __init__(self, head_dim: int, theta: float, scaling: Mapping[str, Any]) -> None:
        """scaling: a Llama's `rope_scaling`, {} for none; see `rotary_frequencies`."""
        self._frequencies = rotary_frequencies(head_dim, theta, scaling)
        self._on: dict[torch.device, Tensor] = {}

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """[B or 1, s] int64 -> cosines and sines [B or 1, 1, s, head_dim], for every head."""
        device = positions.device
        if device not in self._on:
            self._on[device] = self._frequencies.to(device)
        angles = positions[:, None, :, None].float() * self._on[device]
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (i, i + head_dim / 2) of x [B, heads, s, head_dim]."""
    cosines, sines = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-second, first], dim=-1) * sines


def rotary_frequencies(head_dim: int, theta: float, scaling: Mapping[str, Any]) -> Tensor:
    """[head_dim / 2] float32 on the CPU: radians per position of each pair.

    scaling: {"rope_type": "default" | "linear" | "llama3", ...} with Llama's own field names.
    Raises ValueError for other kinds, and for a field that is missing.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64, device="cpu").float() / head_dim
    plain = 1.0 / theta**exponents
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in _SCALINGS:
        raise ValueError(f"rope_scaling: rope_type={kind!r}; must be one of {', '.join(_SCALINGS)}")
    try:
        return _SCALINGS[kind](plain, scaling)
    except KeyError as error:
        raise ValueError(
            f"rope_scaling: {error} is missing, which rope_type={kind!r} needs; add it"
        ) from None


def _llama3(plain: Tensor, scaling: Mapping[str, Any]) -> Tensor:
    """Llama 3.1: slow pairs turn `factor` times slower, fast ones as before, blended between."""
    trained = scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    slowed = plain / scaling["factor"]
    turns = trained / (2 * math.pi / plain)  # of each pair, within the context of the training
    share = (turns - low) / (high - low)
    blended = (1 - share) * slowed + share * plain
    return torch.where(turns < low, slowed, torch.where(turns > high, plain, blended))


_SCALINGS = {
    "default": lambda plain, scaling: plain,
    "linear": lambda plain, scaling: plain / scaling["factor"],
    "llama3": _llama3,
}
