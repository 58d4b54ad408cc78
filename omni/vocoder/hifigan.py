"""Unit HiFi-GAN (Kong et al. 2020; Polyak et al. 2021): the published vocoder of LLaMA-Omni.

Parameter names are fairseq's (`code_hifigan`), so that its weights load one to one after
`fold_weight_norm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.vocoder.base import Vocoder
from omni.vocoder.durations import DurationPredictor
from omni.vocoder.hifigan_config import EDGE_KERNEL, HifiGanConfig, context_frames
from omni.vocoder.stream_layers import (
    PairState,
    SameConv,
    Signal,
    Upsampling,
    align,
    leaky,
    least,
    pair_initial_state,
    pair_spare_before,
    pair_step,
)


@dataclass(frozen=True)
class StageState:
    """Of one upsampling: its own inputs, its residual blocks', and outputs of the quicker ones."""

    up: Tensor
    blocks: tuple[tuple[PairState, ...], ...]
    waiting: tuple[Tensor, ...]


@dataclass(frozen=True)
class HifiGanState:
    """What a stream keeps of the signal inside the vocoder, layer by layer."""

    pre: Tensor
    stages: tuple[StageState, ...]
    post: Tensor


class ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair bypassed."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            SameConv(channels, channels, kernel, dilation=d) for d in dilations
        )
        self.convs2 = nn.ModuleList(SameConv(channels, channels, kernel) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        for dilated, plain in self._pairs():
            x = x + plain(leaky(dilated(leaky(x))))
        return x

    def initial_state(self, batch: int) -> tuple[PairState, ...]:
        """One state per pair."""
        return tuple(pair_initial_state(*pair, batch) for pair in self._pairs())

    def spare_before(self, spare: int | None) -> int | None:
        """As `SameConv.spare_before`."""
        for pair in reversed(self._pairs()):
            spare = pair_spare_before(*pair, spare)
        return spare

    def step(
        self, x: Signal, state: Sequence[PairState], spare: int | None
    ) -> tuple[Signal, tuple[PairState, ...]]:
        """As `SameConv.step`."""
        pairs, spares = self._pairs(), [spare]
        for pair in reversed(pairs[1:]):
            spares.insert(0, pair_spare_before(*pair, spares[0]))
        kept: list[PairState] = []
        for pair, before, needed in zip(pairs, state, spares, strict=True):
            x, after = pair_step(*pair, x, before, needed)
            kept.append(after)
        return x, tuple(kept)

    def _pairs(self) -> list[tuple[SameConv, SameConv]]:
        return list(zip(self.convs1, self.convs2, strict=True))  # pyright: ignore[reportReturnType]  (a ModuleList forgets what it holds)


class UnitHifiGan(Vocoder):
    """Units -> embedding -> upsampling by transposed convolutions and residual blocks -> tanh."""

    kind = HifiGanConfig.kind
    # At 8 frames chunks differ from the whole by 6.6e-4 of the signal (published size).
    recommended_right_context_frames = 8

    def __init__(self, config: HifiGanConfig) -> None:
        super().__init__()
        self.config = config
        self.num_units = config.num_embeddings
        self.context_frames = context_frames(config)
        width = config.embedding_dim
        self.dict = nn.Embedding(config.num_embeddings, width)
        channels = config.upsample_initial_channel
        self.conv_pre = SameConv(width, channels, EDGE_KERNEL)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.ups.append(Upsampling(channels, channels // 2, kernel, rate))
            channels //= 2
            for size, dilations in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(ResBlock(channels, size, dilations))
        self.conv_post = SameConv(channels, 1, EDGE_KERNEL)
        self.dur_predictor = DurationPredictor(
            width, config.duration_width, config.duration_kernel, config.duration_dropout
        )

    @property
    def duration_embedding(self) -> nn.Embedding:
        """The generator's own embedding, which the duration predictor shares."""
        return self.dict

    def forward(self, units: Tensor) -> Tensor:
        """[B, F] int64, one unit per frame -> [B, F * 320] in -1..1."""
        x = self.conv_pre(self.dict(units).transpose(1, 2))  # [B, C, F]
        for up, blocks in self._stages():
            x = up(leaky(x))
            x = _mean([block(x) for block in blocks])
        return torch.tanh(self.conv_post(F.leaky_relu(x))).squeeze(1)

    def synthesize(self, units: Tensor) -> Tensor:
        """As `Vocoder.synthesize`."""
        return self(units[None])[0].float()

    def initial_state(self, batch: int = 1) -> HifiGanState:
        """As `Vocoder.initial_state`."""
        stages: list[StageState] = []
        for up, blocks in self._stages():
            nothing = up.weight.new_zeros(batch, up.out_channels, 0)
            kept = tuple(block.initial_state(batch) for block in blocks)
            stages.append(StageState(up.initial_state(batch), kept, (nothing,) * len(blocks)))
        return HifiGanState(
            self.conv_pre.initial_state(batch), tuple(stages), self.conv_post.initial_state(batch)
        )

    def step(
        self, units: Tensor, state: HifiGanState, *, spare_frames: int | None = None
    ) -> tuple[Signal, HifiGanState]:
        """As `Vocoder.step`."""
        ended = spare_frames is not None
        spare = spare_frames * self.samples_per_frame if ended else None
        before_post = self.conv_post.spare_before(spare)
        # What is needed of each stage, from the last to the first.
        needed: list[tuple[int | None, int | None]] = []
        after = before_post
        for up, blocks in reversed(self._stages()):
            of_up = least([block.spare_before(after) for block in blocks])
            needed.insert(0, (of_up, after))
            after = up.spare_before(of_up)

        embedded = self.dict(units).transpose(1, 2)
        x = Signal(embedded, units.shape[1], 0 if ended else None)
        x, pre = self.conv_pre.step(x, state.pre, after)
        stages: list[StageState] = []
        for (up, blocks), kept, (of_up, of_blocks) in zip(
            self._stages(), state.stages, needed, strict=True
        ):
            x, kept_up = up.step(x.map(leaky), kept.up, of_up)
            made = [
                block.step(x, before, of_blocks)
                for block, before in zip(blocks, kept.blocks, strict=True)
            ]
            signals, waiting = align([signal for signal, _ in made], kept.waiting)
            x = replace(signals[0], values=_mean([signal.values for signal in signals]))
            stages.append(StageState(kept_up, tuple(after for _, after in made), waiting))
        x, post = self.conv_post.step(x.map(F.leaky_relu), state.post, spare)
        waveform = x.map(lambda values: torch.tanh(values).squeeze(1).float())
        return waveform, HifiGanState(pre, tuple(stages), post)

    def _stages(self) -> list[tuple[Upsampling, list[ResBlock]]]:
        count = len(self.config.resblock_kernel_sizes)
        blocks = list(self.resblocks)
        return [
            (up, blocks[place * count : (place + 1) * count]) for place, up in enumerate(self.ups)
        ]  # pyright: ignore[reportReturnType]  (a ModuleList forgets what it holds)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, values) / len(values)
