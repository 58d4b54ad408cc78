"""Sizes of the light vocoder, and how far it looks back and ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omni.audio import SAMPLES_PER_FRAME
from omni.vocoder.receptive_field import Span

LEAST_RIGHT = 2  # frames of right context


@dataclass(frozen=True, kw_only=True)
class NsfConfig:
    """Sizes; the defaults are the embedded default's."""

    kind: ClassVar[str] = "nsf"
    num_units: int
    width: int = 256  # channels at 50 Hz
    trunk_dilations: tuple[int, ...] = (1, 2, 4, 2)  # one residual block each, at 50 Hz
    upsample_rates: tuple[int, int] = (4, 5)
    mid_width: int = 128  # channels at 200 Hz
    mid_dilations: tuple[int, ...] = (1, 2)
    fine_width: int = 64  # channels at 1000 Hz
    fine_dilations: tuple[int, ...] = (1, 2, 4)
    prosody_width: int = 96
    prosody_dilations: tuple[int, ...] = (1, 2, 4, 2)  # as the trunk's, at 50 Hz
    kernel: int = 3
    head_kernel: int = 5
    n_fft: int = 64
    hop: int = 16
    duration_width: int = 128
    duration_kernel: int = 3
    duration_dropout: float = 0.2
    # None: convolutions that look both ways alike. A number: they look back, and so many frames
    # ahead in all, for a voice that begins sooner.
    right_context_frames: int | None = None

    def __post_init__(self) -> None:
        hop = self.upsample_rates[0] * self.upsample_rates[1] * self.hop
        if hop != SAMPLES_PER_FRAME:
            raise ValueError(
                f"upsample_rates {self.upsample_rates} and hop {self.hop}: their product is {hop},"
                f" must be {SAMPLES_PER_FRAME}, the samples of a 20 ms frame"
            )
        if self.n_fft % (2 * self.hop) or self.n_fft < 4 * self.hop:
            raise ValueError(
                f"n_fft {self.n_fft}: must be an even multiple of hop {self.hop}, at least 4 times"
                " it, so that the squared Hann windows add up to a constant"
            )
        if self.kernel % 2 == 0 or self.head_kernel % 2 == 0:
            raise ValueError(
                f"kernel {self.kernel}, head_kernel {self.head_kernel}: must be odd, so that they"
                " have a centre"
            )
        if self.right_context_frames is not None and self.right_context_frames < LEAST_RIGHT:
            raise ValueError(
                f"right_context_frames {self.right_context_frames}: must be at least {LEAST_RIGHT},"
                " which the spectra's overlap and the pitch between two frames take"
            )

    @property
    def causal(self) -> bool:
        """Whether convolutions look back alone."""
        return self.right_context_frames is not None

    @property
    def ahead(self) -> tuple[int, int]:
        """How many frames ahead the trunk and the pitch look."""
        right = LEAST_RIGHT if self.right_context_frames is None else self.right_context_frames
        # A frame's last samples read a column of the next frame, and the F0 of the one after it.
        return (right - 1, right - 2) if self.causal else (0, 0)


def context(config: NsfConfig) -> Span:
    """The frames around frame 0 that may change its samples, given the phase at its start."""
    kernel, causal = config.kernel, config.causal

    def conv(span: Span, size: int) -> Span:
        return span.through_causal(size) if causal else span.through_conv(size)

    def blocks(span: Span, dilations: tuple[int, ...]) -> Span:
        chain = [(kernel, d) for d in dilations] + [(kernel, 1)] * len(dilations)
        return span.through_residual(chain, causal=causal)

    edge = (config.n_fft - config.hop) // 2
    trunk_ahead, prosody_ahead = config.ahead
    prosody = blocks(Span(0, 0), config.prosody_dilations).shifted(prosody_ahead)
    column = Span(0, SAMPLES_PER_FRAME - 1).through_transposed(config.n_fft, config.hop, edge)
    column = blocks(conv(column, config.head_kernel), config.fine_dilations)
    excitation = (
        conv(column, kernel)
        .through_strided(config.n_fft, config.hop, edge)
        .through_repeat(SAMPLES_PER_FRAME)
    )
    # A sample lies between two F0 values, and the advance over a frame reads the F0 at its end:
    # the frame after is needed as well.
    source = Span(prosody.first, prosody.last + 1)
    by_source = Span(excitation.first + source.first, excitation.last + source.last)
    mid = conv(column.through_repeat(config.upsample_rates[1]), kernel)
    trunk = conv(blocks(mid, config.mid_dilations).through_repeat(config.upsample_rates[0]), kernel)
    by_features = blocks(trunk, config.trunk_dilations).shifted(trunk_ahead)
    samples = Span(min(by_source.first, by_features.first), max(by_source.last, by_features.last))
    return samples if causal else Span(-samples.context, samples.context)
