"""The light vocoder's convolutions: looking both ways, or back alone with a given look-ahead."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from omni.vocoder.nsf_config import NsfConfig

SLOPE = 0.1  # of the leaky ReLUs


class SameConv(nn.Conv1d):
    """As many outputs as inputs; causal: padded on the left alone, so that nothing looks ahead."""

    def __init__(
        self, width_in: int, width_out: int, kernel: int, *, causal: bool, dilation: int = 1
    ) -> None:
        reach = dilation * (kernel - 1)
        super().__init__(
            width_in, width_out, kernel, dilation=dilation, padding=0 if causal else reach // 2
        )
        self._left = reach if causal else 0

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, T] -> [B, C', T]."""
        return super().forward(F.pad(input, (self._left, 0)) if self._left else input)


def look_ahead(blocks: nn.Module, x: Tensor, frames: int) -> Tensor:
    """[B, F, C] -> [B, F, C]: blocks that look back, each frame's output taken `frames` later."""
    return blocks(F.pad(x, (0, 0, 0, frames)).transpose(1, 2)).transpose(1, 2)[:, frames:]


class ResidualBlock(nn.Module):
    """Two convolutions with a bypass; with a LayerNorm over the channels before where asked."""

    def __init__(
        self, channels: int, kernel: int, dilation: int, *, causal: bool, normalise: bool
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels) if normalise else None
        self.dilated = SameConv(channels, channels, kernel, dilation=dilation, causal=causal)
        self.plain = SameConv(channels, channels, kernel, causal=causal)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        h = x if self.norm is None else self.norm(x.transpose(1, 2)).transpose(1, 2)
        return x + self.plain(F.leaky_relu(self.dilated(F.leaky_relu(h, SLOPE)), SLOPE))


class Upsample(nn.Module):
    """A convolution whose channels are dealt out over `rate` new places."""

    def __init__(
        self, width_in: int, width_out: int, rate: int, kernel: int, *, causal: bool
    ) -> None:
        super().__init__()
        self.rate = rate
        self.conv = SameConv(width_in, width_out * rate, kernel, causal=causal)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C', T * rate]."""
        dealt = self.conv(F.leaky_relu(x, SLOPE)).unflatten(1, (-1, self.rate))  # [B, C', r, T]
        return dealt.transpose(2, 3).flatten(2)


def residual_blocks(
    config: NsfConfig, width: int, dilations: tuple[int, ...], *, normalise: bool
) -> nn.Sequential:
    """[B, width, T] -> the same: one residual block for each dilation."""
    return nn.Sequential(
        *(
            ResidualBlock(width, config.kernel, d, causal=config.causal, normalise=normalise)
            for d in dilations
        )
    )
