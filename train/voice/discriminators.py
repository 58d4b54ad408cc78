"""Who a vocoder learns to deceive: the discriminators of HiFi-GAN (Kong et al. 2020).

Five look at every 2nd, 3rd, 5th, 7th and 11th sample, three at the waveform at its own and at
lower rates. Their weights are normalised by weight (Salimans & Kingma 2016); the paper normalises
one of the eight by its spectrum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

SLOPE = 0.1  # of the leaky ReLUs
GROUPS = 16  # of the convolutions over the waveform


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes. channels: of the widest layers, 1024 as published; an eighth of it suits a CPU."""

    channels: int = 1024
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    scales: int = 3

    def __post_init__(self) -> None:
        least = 8 * GROUPS
        if self.channels < least or self.channels % least:
            raise ValueError(
                f"channels={self.channels}: must be a multiple of {least}, as the narrowest layers "
                f"have an eighth of it in {GROUPS} groups"
            )


@dataclass(frozen=True)
class Judgement:
    """Of each waveform [B]: what the vocoder and what the discriminators have to mend.

    adversarial: how far it is from being taken for true. features: the mean distance of what
    the layers see in it from what they see in the truth. discriminators: their own errors about
    both. Each is a sum over the discriminators, features over all layers (Kong et al. 2020).
    """

    adversarial: Tensor
    features: Tensor
    discriminators: Tensor


class PeriodDiscriminator(nn.Module):
    """Reads a waveform as rows of `period` samples; convolves down the columns."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, channels // 32, channels // 8, channels // 2, channels)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), padding=(2, 0)))
            for a, b in pairwise(widths)
        )
        self.convs.append(weight_norm(nn.Conv2d(channels, channels, (5, 1), padding=(2, 0))))
        self.score = weight_norm(nn.Conv2d(channels, 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """[B, W] -> what each layer sees [B, C, ...], the scores last."""
        rest = -waveform.shape[1] % self.period
        padded = F.pad(waveform[:, None], (0, rest), mode="reflect")
        rows = padded.unflatten(2, (-1, self.period))  # [B, 1, W / period, period]
        return _through(rows, self.convs, self.score)


class ScaleDiscriminator(nn.Module):
    """Reads a waveform as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        sizes = (  # in, out, kernel, stride, groups
            (1, c // 8, 15, 1, 1), (c // 8, c // 8, 41, 2, 4), (c // 8, c // 4, 41, 2, GROUPS),
            (c // 4, c // 2, 41, 4, GROUPS), (c // 2, c, 41, 4, GROUPS), (c, c, 41, 1, GROUPS),
            (c, c, 5, 1, 1),
        )  # fmt: skip
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(a, b, kernel, stride, padding=kernel // 2, groups=groups))
            for a, b, kernel, stride, groups in sizes
        )
        self.score = weight_norm(nn.Conv1d(c, 1, 3, padding=1))

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """[B, W] -> what each layer sees [B, C, ...], the scores last."""
        return _through(waveform[:, None], self.convs, self.score)


class Discriminators(nn.Module):
    """All of them, and the least-squares losses of both sides (Mao et al. 2017)."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.by_period = nn.ModuleList(
            PeriodDiscriminator(period, config.channels) for period in config.periods
        )
        self.by_scale = nn.ModuleList(
            ScaleDiscriminator(config.channels) for _ in range(config.scales)
        )

    def forward(self, waveform: Tensor) -> list[list[Tensor]]:
        """[B, W] -> of each discriminator, what its layers see, the scores last."""
        seen = [look(waveform) for look in self.by_period]
        for look in self.by_scale:
            seen.append(look(waveform))
            waveform = F.avg_pool1d(waveform[:, None], 4, 2, padding=2)[:, 0]
        return seen

    def judge(self, made: Tensor, true: Tensor) -> Judgement:
        """[B, W], [B, W] -> the losses of both sides, which one way back minimises together.

        For the vocoder's the discriminators stand still, for theirs the vocoder does.
        """
        both = self(torch.cat([true, made.detach()]))
        still = {name: weight.detach() for name, weight in self.named_parameters()}
        mine = functional_call(self, still, (made,))
        adversarial = features = own = torch.zeros(len(made), device=made.device)
        for seen, here in zip(mine, both, strict=True):
            real, false = here[-1].chunk(2)
            adversarial = adversarial + _mean((1 - seen[-1].float()) ** 2)
            own = own + _mean((1 - real.float()) ** 2) + _mean(false.float() ** 2)
            for of_made, of_both in zip(seen[:-1], here[:-1], strict=True):
                of_true = of_both[: len(made)].detach()
                features = features + _mean((of_made - of_true).abs().float())
        return Judgement(adversarial, features, own)


def _through(signal: Tensor, convs: Iterable[nn.Module], score: nn.Module) -> list[Tensor]:
    seen: list[Tensor] = []
    for conv in convs:
        signal = F.leaky_relu(conv(signal), SLOPE)
        seen.append(signal)
    return [*seen, score(signal)]


def _mean(values: Tensor) -> Tensor:
    """[B, ...] -> [B]"""
    return values.flatten(1).mean(1)
