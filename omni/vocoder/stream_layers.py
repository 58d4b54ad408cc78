"""Convolutions that go on where they stopped: each keeps the inputs that it will need again.

A layer that looks ahead gives an output once all that it depends on has come, so it lags behind its
input; a chain of layers lags by the sum, and computes every value once. Where a stretch has to be
made before what follows it is known, the layers behind it also give what would be if nothing
followed: that is not remembered, and is made anew when more has come.

Every layer has `initial_state(batch)`, `step` and `spare_before`, beside its `forward` of a whole
signal. States are values with the batch in front. Rows of one batch have the same number of new
inputs and of kept ones; past the first inputs of a reply every state has its full size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.vocoder.packing import PackedWeight, can_be_packed

SLOPE = 0.1  # of the leaky ReLUs


@dataclass(frozen=True)
class Signal:
    """The next stretch of a signal.

    values: [B, C, T] ([B, T] for a waveform). final: so many of them, from the left, are those of
    the whole; the rest is what would be if nothing followed. missing: None: more follows, and all
    values are final; else how many values are left out between the last one and the end.
    """

    values: Tensor
    final: int
    missing: int | None

    @property
    def length(self) -> int:
        """How many values there are."""
        return self.values.shape[-1]

    def map(self, function: Callable[[Tensor], Tensor]) -> Signal:
        """A function of each place alone."""
        return replace(self, values=function(self.values))


@dataclass(frozen=True)
class PairState:
    """A residual block's: inputs that each convolution needs again, and those of the bypass."""

    dilated: Tensor
    plain: Tensor
    bypass: tuple[Tensor, ...]


class SameConv(nn.Conv1d):
    """As many outputs as inputs; causal: padded on the left alone, so that nothing looks ahead."""

    def __init__(
        self, width_in: int, width_out: int, kernel: int, *, causal: bool = False, dilation: int = 1
    ) -> None:
        reach = dilation * (kernel - 1)
        super().__init__(
            width_in, width_out, kernel, dilation=dilation, padding=0 if causal else reach // 2
        )
        self.left = reach if causal else reach // 2
        self.right = reach - self.left
        self._packed = PackedWeight()

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, T] -> [B, C', T]."""
        if self.weight.dtype == torch.float64:
            return self._convolved(F.pad(input, (self.left, self.right)))
        return super().forward(F.pad(input, (self.left, 0)) if self.right == 0 else input)

    def initial_state(self, batch: int) -> Tensor:
        """The padding before the first input: [B, C, left]."""
        return self.weight.new_zeros(batch, self.in_channels, self.left)

    def spare_before(self, spare: int | None) -> int | None:
        """How many inputs at the end are not needed where the last `spare` outputs are not."""
        return None if spare is None else max(0, spare - self.right)

    def step(self, x: Signal, kept: Tensor, spare: int | None) -> tuple[Signal, Tensor]:
        """The next inputs [B, C, T] -> the outputs that they allow, and the inputs to keep.

        spare: None if more follows; else the signal ends, but for its last `spare` outputs.
        """
        known, reach = kept.shape[-1] + x.final, self.left + self.right
        final = max(0, known - reach)
        padding = max(0, self.right - spare) if spare is not None and x.missing == 0 else 0
        joined = in_turn(kept, x.values, kept.new_zeros(*kept.shape[:-1], padding))
        if joined.shape[-1] > reach:
            values = self._convolved(joined)
        else:
            values = joined.new_zeros(len(joined), self.out_channels, 0)
        missing = None if x.missing is None else x.missing + self.right - padding
        return Signal(values, final, missing), joined[..., final:known].clone()

    def _convolved(self, padded: Tensor) -> Tensor:
        """[B, C, left + T + right] -> [B, C', T].

        With a packed weight where it can be. Else as one matrix product where torch's own
        convolution is slow on a CPU: over short stretches it spends much of its time on laying out
        the weights anew, and the dilated one of float64 copies hundreds of pieces.
        """
        if can_be_packed(padded, self.weight):
            return self._packed.convolved(self, padded)
        step, taps = self.dilation[0], self.kernel_size[0]
        length = padded.shape[-1] - step * (taps - 1)
        short = length <= 2 * self.out_channels
        dilated = step > 1 and padded.dtype == torch.float64
        if padded.is_cuda or not (short or dilated):
            return F.conv1d(padded, self.weight, self.bias, dilation=step)
        slices = [padded[..., tap * step : tap * step + length] for tap in range(taps)]
        columns = torch.stack(slices, dim=2).flatten(1, 2)  # [B, C * taps, T]
        assert self.bias is not None
        return self.weight.flatten(1) @ columns + self.bias[:, None]


class Upsampling(nn.ConvTranspose1d):
    """A transposed convolution with exactly `rate` outputs for each input."""

    def __init__(self, width_in: int, width_out: int, kernel: int, rate: int) -> None:
        self.rate, self.edge = rate, (kernel - rate) // 2
        super().__init__(width_in, width_out, kernel, rate, padding=self.edge)
        self._packed = PackedWeight()

    def initial_state(self, batch: int) -> Tensor:
        """Nothing is kept before the first input: [B, C, 0]."""
        return self.weight.new_zeros(batch, self.in_channels, 0)

    def spare_before(self, spare: int | None) -> int | None:
        """As `SameConv.spare_before`."""
        return None if spare is None else spare_before_overlap(spare, self.rate, self.edge)

    def step(self, x: Signal, kept: Tensor, spare: int | None) -> tuple[Signal, Tensor]:
        """[B, C, T] -> [B, C', about T * rate]; as `SameConv.step`."""

        def added(joined: Tensor) -> Tensor:
            if can_be_packed(joined, self.weight):
                return self._packed.transposed(self, joined)
            return F.conv_transpose1d(joined, self.weight, self.bias, stride=self.rate)

        return overlap_step(added, x, kept, spare, rate=self.rate, edge=self.edge)


def spare_before_overlap(spare: int, rate: int, edge: int) -> int:
    """Inputs at the end that only the last `spare` outputs of `overlap_step` need."""
    return max(0, -(-(spare + 1 - edge) // rate) - 1)


def overlap_step(
    added: Callable[[Tensor], Tensor],
    x: Signal,
    kept: Tensor,
    spare: int | None,
    *,
    rate: int,
    edge: int,
) -> tuple[Signal, Tensor]:
    """Inputs whose outputs overlap: input i adds to the outputs i * rate - edge and following.

    added: [B, C, n] -> [B, C', (n - 1) * rate + kernel], with kernel = rate + 2 * edge.
    """
    joined = in_turn(kept, x.values)
    known = kept.shape[-1] + x.final
    # Those from the input before which everything that overlaps is here; not the outermost edge.
    begin = max(edge, kept.shape[-1] * rate)
    end, missing = joined.shape[-1] * rate, x.missing
    if spare is not None and missing is not None:
        more = max(0, edge - spare) if missing == 0 else 0
        end, missing = end + more, missing * rate + edge - more
    values = added(joined) if joined.shape[-1] else added(joined.new_zeros(*joined.shape[:-1], 1))
    values = values[..., begin : max(begin, end)]
    # So many inputs reach over the next one's first output.
    back = -(-(rate + 2 * edge) // rate) - 1
    keep = joined[..., max(0, known - back) : known].clone()
    return Signal(values, max(0, known * rate - begin), missing), keep


def align(
    signals: Sequence[Signal], waiting: Sequence[Tensor]
) -> tuple[list[Signal], tuple[Tensor, ...]]:
    """Signals that lag differently -> the stretch that all of them have; the rest waits.

    waiting: [B, C, n] of each, the values for which another signal is late.
    """
    joined = [
        in_turn(w, s.values) if w.shape[-1] else s.values
        for w, s in zip(waiting, signals, strict=True)
    ]
    finals = [w.shape[-1] + s.final for w, s in zip(waiting, signals, strict=True)]
    length, final = min(values.shape[-1] for values in joined), min(finals)
    made: list[Signal] = []
    for values, signal in zip(joined, signals, strict=True):
        beyond = values.shape[-1] - length
        missing = None if signal.missing is None else signal.missing + beyond
        made.append(Signal(values[..., :length], final, missing))
    rest = (values[..., final:known].clone() for values, known in zip(joined, finals, strict=True))
    return made, tuple(rest)


def in_turn(kept: Tensor, new: Tensor, *behind: Tensor) -> Tensor:
    """[B, C, n] of each, n may be 0 -> one behind the other.

    Where the new ones have the channels of a place side by side in memory, as a packed convolution
    gives them, so has the result.
    """
    stretches = (kept, new, *behind)
    if new.stride(1) == 1:
        return torch.cat([values.transpose(1, 2) for values in stretches], dim=1).transpose(1, 2)
    return torch.cat(stretches, dim=-1)


def pair_initial_state(dilated: SameConv, plain: SameConv, batch: int) -> PairState:
    """Of `pair_step`, before the first input."""
    nothing = dilated.weight.new_zeros(batch, dilated.in_channels, 0)
    return PairState(dilated.initial_state(batch), plain.initial_state(batch), (nothing, nothing))


def pair_spare_before(dilated: SameConv, plain: SameConv, spare: int | None) -> int | None:
    """Inputs at the end that only the last `spare` outputs of `pair_step` need."""
    return dilated.spare_before(plain.spare_before(spare))


def pair_step(
    dilated: SameConv,
    plain: SameConv,
    x: Signal,
    state: PairState,
    spare: int | None,
    *,
    norm: nn.Module | None = None,
) -> tuple[Signal, PairState]:
    """Two convolutions with a bypass, each behind a leaky ReLU; norm: over the channels, before."""
    h = x if norm is None else x.map(lambda v: norm(v.transpose(1, 2)).transpose(1, 2))
    h, kept = dilated.step(h.map(leaky), state.dilated, plain.spare_before(spare))
    h, kept_plain = plain.step(h.map(leaky), state.plain, spare)
    (x, h), bypass = align((x, h), state.bypass)
    return replace(h, values=x.values + h.values), PairState(kept, kept_plain, bypass)


def least(spares: Sequence[int | None]) -> int | None:
    """What a signal that several layers read must leave out at most."""
    known = [spare for spare in spares if spare is not None]
    return min(known) if known else None


def leaky(x: Tensor) -> Tensor:
    """The leaky ReLU of all layers but a head's."""
    return F.leaky_relu(x, SLOPE)
