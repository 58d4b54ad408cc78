"""The light vocoder's blocks: looking both ways, or back alone with a given look-ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn import functional as F

from omni.vocoder.nsf_config import NsfConfig
from omni.vocoder.stream_layers import (
    PairState,
    SameConv,
    Signal,
    leaky,
    pair_initial_state,
    pair_spare_before,
    pair_step,
)


@dataclass(frozen=True)
class AheadState:
    """Of blocks that are read `ahead` places later: theirs, and how many places are still to go."""

    blocks: tuple[PairState, ...]
    skip: int


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
        return x + self.plain(leaky(self.dilated(leaky(h))))


class Blocks(nn.Sequential):
    """Residual blocks, one after the other."""

    def __init__(self, *blocks: ResidualBlock) -> None:
        super().__init__(*blocks)

    def initial_state(self, batch: int) -> tuple[PairState, ...]:
        """One state per block."""
        return tuple(pair_initial_state(b.dilated, b.plain, batch) for b in self._blocks())

    def spare_before(self, spare: int | None) -> int | None:
        """As `SameConv.spare_before`."""
        for block in reversed(self._blocks()):
            spare = pair_spare_before(block.dilated, block.plain, spare)
        return spare

    def step(
        self, x: Signal, state: Sequence[PairState], spare: int | None
    ) -> tuple[Signal, tuple[PairState, ...]]:
        """As `SameConv.step`."""
        blocks, spares = self._blocks(), [spare]
        for block in reversed(blocks[1:]):
            spares.insert(0, pair_spare_before(block.dilated, block.plain, spares[0]))
        kept: list[PairState] = []
        for block, before, needed in zip(blocks, state, spares, strict=True):
            x, after = pair_step(block.dilated, block.plain, x, before, needed, norm=block.norm)
            kept.append(after)
        return x, tuple(kept)

    def _blocks(self) -> list[ResidualBlock]:
        return [block for block in self if isinstance(block, ResidualBlock)]


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
        return self._dealt(self.conv(leaky(x)))

    def spare_before(self, spare: int | None) -> int | None:
        """As `SameConv.spare_before`."""
        return self.conv.spare_before(None if spare is None else spare // self.rate)

    def step(self, x: Signal, kept: Tensor, spare: int | None) -> tuple[Signal, Tensor]:
        """[B, C, T] -> [B, C', about T * rate]; as `SameConv.step`."""
        needed = None if spare is None else spare // self.rate
        y, kept = self.conv.step(x.map(leaky), kept, needed)
        missing = None if y.missing is None else y.missing * self.rate
        return Signal(self._dealt(y.values), y.final * self.rate, missing), kept

    def _dealt(self, x: Tensor) -> Tensor:
        dealt = x.unflatten(1, (-1, self.rate))  # [B, C', r, T]
        return dealt.transpose(2, 3).flatten(2)


def look_ahead(blocks: nn.Module, x: Tensor, frames: int) -> Tensor:
    """[B, F, C] -> [B, F, C]: blocks that look back, each frame's output taken `frames` later."""
    return blocks(F.pad(x, (0, 0, 0, frames)).transpose(1, 2)).transpose(1, 2)[:, frames:]


def look_ahead_step(
    blocks: Blocks, x: Signal, state: AheadState, frames: int, spare: int | None
) -> tuple[Signal, AheadState]:
    """The same for the next frames [B, C, F], all of them final; as `SameConv.step`."""
    if spare is not None and x.missing is not None:
        padding = max(0, frames - spare)
        x = replace(x, values=F.pad(x.values, (0, padding)), missing=frames - padding)
    y, kept = blocks.step(x, state.blocks, spare)
    made = Signal(y.values[..., state.skip :], max(0, y.final - state.skip), y.missing)
    return made, AheadState(kept, max(0, state.skip - y.final))


def residual_blocks(
    config: NsfConfig, width: int, dilations: tuple[int, ...], *, normalise: bool
) -> Blocks:
    """[B, width, T] -> the same: one residual block for each dilation."""
    return Blocks(
        *(
            ResidualBlock(width, config.kernel, d, causal=config.causal, normalise=normalise)
            for d in dilations
        )
    )
