"""Sizes of unit HiFi-GAN, how far it looks both ways, and fairseq's files of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from omni.audio import SAMPLE_RATE, SAMPLES_PER_FRAME
from omni.vocoder.receptive_field import Span

EDGE_KERNEL = 7  # of the first and the last convolution


@dataclass(frozen=True, kw_only=True)
class HifiGanConfig:
    """The published recipe; the names of fairseq's config.json."""

    kind: ClassVar[str] = "hifigan"
    num_embeddings: int = 1000
    embedding_dim: int = 128
    upsample_rates: tuple[int, ...] = (5, 4, 4, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (11, 8, 8, 4, 4)
    upsample_initial_channel: int = 512
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    duration_width: int = 128
    duration_kernel: int = 3
    duration_dropout: float = 0.5

    def __post_init__(self) -> None:
        hop = 1
        for rate in self.upsample_rates:
            hop *= rate
        if hop != SAMPLES_PER_FRAME:
            raise ValueError(
                f"upsample_rates {self.upsample_rates}: their product is {hop}, must be "
                f"{SAMPLES_PER_FRAME}, the samples of a 20 ms frame at {SAMPLE_RATE} Hz"
            )
        if len(self.upsample_kernel_sizes) != len(self.upsample_rates):
            raise ValueError(
                f"upsample_kernel_sizes {self.upsample_kernel_sizes}: one per rate is needed, "
                f"that is {len(self.upsample_rates)}"
            )
        for rate, kernel in zip(self.upsample_rates, self.upsample_kernel_sizes, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise ValueError(
                    f"upsample kernel {kernel} at rate {rate}: must be at least the rate and "
                    "differ from it by an even number, so that lengths multiply exactly"
                )
        if len(self.resblock_dilation_sizes) != len(self.resblock_kernel_sizes):
            raise ValueError(
                f"resblock_dilation_sizes {self.resblock_dilation_sizes}: one tuple per kernel "
                f"is needed, that is {len(self.resblock_kernel_sizes)}"
            )


def hifigan_config(fairseq: Mapping[str, Any]) -> HifiGanConfig:
    """fairseq's config.json -> ours. Raises ValueError for a vocoder of another kind."""
    if fairseq.get("resblock", "1") != "1" or fairseq.get("f0") or fairseq.get("multispkr"):
        raise ValueError(
            "this HiFi-GAN has another residual block, pitch input or several speakers: only "
            "plain unit vocoders (resblock '1', f0 false, one speaker) can be converted"
        )
    if fairseq["model_in_dim"] != fairseq["embedding_dim"]:
        raise ValueError(
            f"model_in_dim {fairseq['model_in_dim']}: must equal embedding_dim "
            f"{fairseq['embedding_dim']}; only the unit embedding is an input here"
        )
    durations = fairseq["dur_predictor_params"]
    return HifiGanConfig(
        num_embeddings=fairseq["num_embeddings"],
        embedding_dim=fairseq["embedding_dim"],
        upsample_rates=tuple(fairseq["upsample_rates"]),
        upsample_kernel_sizes=tuple(fairseq["upsample_kernel_sizes"]),
        upsample_initial_channel=fairseq["upsample_initial_channel"],
        resblock_kernel_sizes=tuple(fairseq["resblock_kernel_sizes"]),
        resblock_dilation_sizes=tuple(tuple(d) for d in fairseq["resblock_dilation_sizes"]),
        duration_width=durations["var_pred_hidden_dim"],
        duration_kernel=durations["var_pred_kernel_size"],
        duration_dropout=durations["var_pred_dropout"],
    )


def fold_weight_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace every pair weight_g, weight_v by weight = g * v / |v|, the norm over all but dim 0.

    For a transposed convolution dim 0 is the INPUT channel. Raises ValueError for half a pair.
    """
    folded: dict[str, Tensor] = {}
    for name, value in weights.items():
        stem, _, last = name.rpartition(".")
        if last not in ("weight_g", "weight_v"):
            folded[name] = value
            continue
        partner = f"{stem}.{'weight_v' if last == 'weight_g' else 'weight_g'}"
        if partner not in weights:
            raise ValueError(
                f"{name} has no {partner}: weight norm needs both; use a complete checkpoint"
            )
        if last == "weight_v":
            v = value.float()
            norm = v.flatten(1).norm(dim=1).reshape(-1, *[1] * (v.dim() - 1))
            folded[f"{stem}.weight"] = weights[partner].float() * v / norm
    return folded


def context_frames(config: HifiGanConfig) -> int:
    """Frames on each side that can change a frame: 21 for the published recipe."""
    widest = max(
        zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True),
        key=lambda pair: (pair[0] // 2) * (sum(pair[1]) + len(pair[1])),
    )
    kernel, dilations = widest
    chain = [(kernel, d) for d in dilations] + [(kernel, 1)] * len(dilations)
    span = Span(0, SAMPLES_PER_FRAME - 1).through_conv(EDGE_KERNEL)
    for rate, size in zip(
        reversed(config.upsample_rates), reversed(config.upsample_kernel_sizes), strict=True
    ):
        span = span.through_residual(chain).through_transposed(size, rate, (size - rate) // 2)
    return span.through_conv(EDGE_KERNEL).context
