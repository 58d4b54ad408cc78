"""The unit decoder's next step for many replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from omni.batching.compiled import Backend, BufferKind, CompiledSteps, Size, compile_step
from omni.batching.rows import Layers, Row, Rows
from omni.batching.together import Together
from omni.unit_decoder import UnitDecoder, UnitDecoderState
from omni.values import Frames


class StateRow(Row[UnitDecoderState]):
    """Keys and values of one reply: a unit decoder's state, or a row of a buffer."""

    def layers(self, own: UnitDecoderState) -> Layers:
        """Of every layer, without the slots that are still free."""
        held = slice(0, self.length)
        return [
            (keys[0, :, held], values[0, :, held])
            for keys, values in zip(own.keys, own.values, strict=True)
        ]

    def copied(self, layers: Layers) -> UnitDecoderState:
        """A state of one, without free slots."""
        keys, values = (torch.stack(tensors)[:, None] for tensors in zip(*layers, strict=True))
        lengths = torch.tensor([self.length], device=keys.device)
        return UnitDecoderState(keys, values, lengths, self.length)


@dataclass(frozen=True)
class SpeechInputs:
    """What the unit decoder reads next of one reply: `UnitDecoder.inputs`, [1, n, H]."""

    states: Frames
    past: UnitDecoderState | StateRow

    @property
    def state(self) -> UnitDecoderState:
        """The past as a state, for a step of this reply alone."""
        return self.past.own() if isinstance(self.past, StateRow) else self.past


@dataclass(frozen=True)
class SpeechOutput:
    """log_probs: [1, n * upsample, K + 1]; past: with the steps of these."""

    log_probs: Frames
    past: UnitDecoderState | StateRow


class UnitDecoderSteps(Together[SpeechInputs, StateRow, SpeechOutput]):
    """Replies that bring one state each share a step."""

    def __init__(self, decoder: UnitDecoder, *, compiled: bool = True) -> None:
        super().__init__(decoder, new=decoder.upsample, compiled=compiled)
        self._decoder = decoder

    def row(self, item: SpeechInputs) -> StateRow | None:
        """None where a reply brings more than one state, or none."""
        if item.states.values.shape[1] != 1:
            return None
        past = item.past
        return past if isinstance(past, StateRow) else StateRow(past, int(past.lengths[0]))

    def alone(self, item: SpeechInputs) -> SpeechOutput:
        """A step of this reply."""
        return SpeechOutput(*self._decoder.step(item.states, item.state))

    def together(
        self, buffer: Rows, rows: Sequence[StateRow], items: Sequence[SpeechInputs]
    ) -> list[SpeechOutput]:
        """A step of all rows, by one state each."""
        before = [row.length for row in rows]
        inputs = [item.states.values for item in items]  # [1, 1, H] each
        made = None
        if (steps := self.compiled) is not None:
            made = steps.run(self._decoder, inputs, before, (buffer.keys, buffer.values))
        if made is not None:
            log_probs = Frames(*made)
        else:
            values = torch.cat(inputs)  # [B, 1, H]
            lengths = torch.tensor(before, device=values.device)
            # The buffer has room for the step, so it is written in place.
            state = UnitDecoderState(*buffer.filled(), lengths, max(before))
            log_probs, _ = self._decoder.step(Frames(values, torch.ones_like(lengths)), state)
        return [
            SpeechOutput(Frames(*one), row)
            for *one, row in zip(
                log_probs.values.split(1), log_probs.lengths.split(1), rows, strict=True
            )
        ]


def compile_unit_decoder(
    decoder: UnitDecoder,
    sizes: Sequence[Size],
    *,
    backend: Backend = "inductor",
    progress: Callable[[], object] = lambda: None,
) -> CompiledSteps:
    """Compile its step for buffers of these sizes (positions: `upsample` for each state).

    What fails is told, and its steps run as before; see `compile_step`.
    """
    config, weight = decoder.config, decoder.output_proj.weight
    kind = BufferKind(
        layers=config.layers, heads=config.heads, head_dim=config.head_dim,
        input_width=config.reads_width, dtype=weight.dtype, device=weight.device,
    )  # fmt: skip
    steps = CompiledSteps(kind, unit_decoder_step, backend=backend)
    return compile_step(decoder, steps, sizes, progress)


def unit_decoder_step(
    decoder: UnitDecoder,
    inputs: Tensor,
    lengths: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """See omni.batching.compiled.Step. Makes [slots, upsample, K + 1] log-probabilities, and the
    steps of each row, [slots]."""
    made = decoder.step_within(Frames(inputs, torch.ones_like(lengths)), lengths, keys, values)
    return made.values, made.lengths
