"""The layers of a Whisper encoder, with the keys and values of frames that came before."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpeechEncoderLayer(nn.Module):
    """Attention and a feed-forward net, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Frames [B, n, D] -> the layer's output, and the keys and values of all frames so far.

        mask: what each frame may look at, bool or additive; None for everything.
        past: keys and values [B, heads, p, head_dim] of frames before, if any.
        """
        seen, keys, values = self.self_attn(self.self_attn_layer_norm(x), mask, past)
        x = x + seen
        x = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        if x.dtype == torch.float16:
            # A large Whisper's residuals reach beyond what float16 holds; infinity would spread.
            limit = torch.finfo(x.dtype).max - 1000
            x = x.clamp(-limit, limit)
        return x, keys, values


class SelfAttention(nn.Module):
    """Whisper's: keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, n, D] -> the same shape, and the keys and values [B, heads, p + n, head_dim]."""
        queries, keys, values = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if past is not None:
            keys = torch.cat([past[0], keys], dim=2)
            values = torch.cat([past[1], values], dim=2)
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.out_proj(seen.transpose(1, 2).flatten(2)), keys, values
