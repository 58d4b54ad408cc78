"""How far a layer's output looks back and ahead, by interval arithmetic from output to input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Positions first ... last, both included, of a signal at some rate."""

    first: int
    last: int

    def through_conv(self, kernel: int, dilation: int = 1) -> Span:
        """The inputs of a convolution with "same" padding (odd kernel, stride 1)."""
        radius = dilation * (kernel // 2)
        return Span(self.first - radius, self.last + radius)

    def through_causal(self, kernel: int, dilation: int = 1) -> Span:
        """The inputs of a convolution that is padded on the left alone."""
        return Span(self.first - dilation * (kernel - 1), self.last)

    def through_strided(self, kernel: int, stride: int, padding: int) -> Span:
        """The inputs of a convolution with a stride: output n reads n * stride - padding + tap."""
        return Span(self.first * stride - padding, self.last * stride - padding + kernel - 1)

    def through_transposed(self, kernel: int, stride: int, padding: int) -> Span:
        """The inputs of a transposed convolution: output n = input * stride - padding + tap."""
        first = -((kernel - 1 - self.first - padding) // stride)  # rounded up
        return Span(first, (self.last + padding) // stride)

    def through_repeat(self, factor: int) -> Span:
        """The inputs of an upsampling in which input i gives outputs i * factor and following."""
        return Span(self.first // factor, self.last // factor)

    def through_residual(self, layers: Iterable[Sequence[int]], *, causal: bool = False) -> Span:
        """The inputs of a chain of (kernel, dilation) convolutions; the bypass is inside."""
        span = self
        for kernel, dilation in layers:
            through = span.through_causal if causal else span.through_conv
            span = through(kernel, dilation)
        return span

    def shifted(self, places: int) -> Span:
        """The inputs of a signal that runs so many places ahead."""
        return Span(self.first + places, self.last + places)

    @property
    def context(self) -> int:
        """Positions beside position 0 that position 0 may look at, on its wider side."""
        return max(-self.first, self.last)
