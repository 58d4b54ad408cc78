"""From LLM states to sound, step by step: unit decoder, collapse, chunked vocoder.

The half of a session that knows nothing of language. Law: any way of feeding states gives the
same units, and the same sound up to where chunks are cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from omni.audio import SAMPLE_RATE
from omni.batching import SpeechInputs, StateRow
from omni.ctc import CollapseState, collapse, initial_collapse_state
from omni.model import OmniForConditionalGeneration
from omni.session.config import SessionConfig
from omni.unit_decoder import UnitDecoder, UnitDecoderState
from omni.values import Frames
from omni.vocoder import AudioChunk, StreamContext, StreamingVocoder, StreamState


@dataclass(frozen=True)
class SpeakerState:
    """What speaking remembers between two states of the LLM."""

    decoder: UnitDecoderState | StateRow
    collapse: CollapseState
    vocoder: StreamState | None


class Speaker:
    """A unit decoder and, where the checkpoint has one, a vocoder behind a chunk schedule."""

    def __init__(self, unit_decoder: UnitDecoder, vocoder: StreamingVocoder | None) -> None:
        self._decoder = unit_decoder
        self._vocoder = vocoder

    def initial_state(self) -> SpeakerState:
        """The state before the first text of a reply."""
        return SpeakerState(
            self._decoder.initial_state(1),
            initial_collapse_state(self._decoder.blank),
            self._vocoder.initial_state() if self._vocoder is not None else None,
        )

    def inputs(
        self,
        states: Frames,
        ids: Tensor,
        embed: Callable[[Tensor], Tensor],
        state: SpeakerState,
    ) -> SpeechInputs:
        """What the unit decoder reads next, of the LLM's states and the tokens they predict."""
        return SpeechInputs(self._decoder.inputs(states, ids, embed), state.decoder)

    def merge(
        self, past: UnitDecoderState | StateRow, labels: Sequence[int], state: SpeakerState
    ) -> tuple[list[int], SpeakerState]:
        """The best labels of a step, and the unit decoder's past with it -> the merged units that
        it adds."""
        units, collapsed = collapse(labels, state.collapse, self._decoder.blank)
        return units, SpeakerState(past, collapsed, state.vocoder)

    def vocode(
        self, units: list[int], state: SpeakerState
    ) -> tuple[list[AudioChunk], SpeakerState]:
        """New units -> the chunks that became due."""
        if self._vocoder is None or state.vocoder is None:
            return [], state
        chunks, vocoder = self._vocoder.step(units, state.vocoder)
        return chunks, SpeakerState(state.decoder, state.collapse, vocoder)

    def unplayed_seconds(self, state: SpeakerState) -> float | None:
        """What the listener has left to play, less than 0 since it ran out; None before sound."""
        if self._vocoder is None or state.vocoder is None:
            return None
        return self._vocoder.unplayed_seconds(state.vocoder)

    def heard(self, state: SpeakerState, buffered_seconds: float) -> SpeakerState:
        """What the listener has left to play now; schedules that pace themselves go by it."""
        if self._vocoder is None or state.vocoder is None:
            return state
        until = self._vocoder.clock() + buffered_seconds
        return replace(state, vocoder=self._vocoder.heard(state.vocoder, played_until=until))

    def finish(self, state: SpeakerState) -> list[AudioChunk]:
        """The rest of the reply."""
        if self._vocoder is None or state.vocoder is None:
            return []
        return self._vocoder.finish(state.vocoder)


def build_speaker(
    model: OmniForConditionalGeneration,
    config: SessionConfig,
    clock: Callable[[], float] = time.perf_counter,
) -> Speaker | None:
    """The model's voice under this configuration; None before stage 2. clock: seconds."""
    if model.unit_decoder is None:
        return None
    vocoder = model.vocoder if config.speak else None
    if vocoder is None:
        return Speaker(model.unit_decoder, None)
    context = StreamContext.chosen(
        vocoder,
        config.right_context_frames,
        crossfade_samples=round(config.crossfade_ms * SAMPLE_RATE / 1000),
    )
    return Speaker(
        model.unit_decoder, StreamingVocoder(vocoder, config.schedule, context, clock=clock)
    )
