"""The vocoder chunk by chunk: the same timing and the same sound as the whole reply.

A vocoder looks both ways. Left context is kept; right context is waited for, as far as
`right_context_frames` says. Where that is less than the vocoder's own context, the chunk is cut
there, and its end is cross-faded into the next chunk's version of the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from omni.audio import SAMPLE_RATE
from omni.vocoder.base import SourceState, Vocoder
from omni.vocoder.chunking import ChunkSchedule

CROSSFADE_MS = 5.0  # the default of everything that streams


@dataclass(frozen=True, kw_only=True)
class StreamContext:
    """What a chunk may see of its neighbours.

    right_context_frames: waited for before a chunk is made, so it counts in first-audio time.
    crossfade_samples: held back at the end of a chunk that was cut short of its full context.
    """

    left_context_frames: int
    right_context_frames: int
    crossfade_samples: int = round(CROSSFADE_MS * SAMPLE_RATE / 1000)

    def __post_init__(self) -> None:
        for name in ("left_context_frames", "right_context_frames", "crossfade_samples"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be 0 or more")

    @classmethod
    def recommended(cls, vocoder: Vocoder) -> StreamContext:
        """All of the left, and as much of the right as can be heard."""
        return cls(
            left_context_frames=vocoder.context_frames,
            right_context_frames=vocoder.recommended_right_context_frames,
        )

    @classmethod
    def exact(cls, vocoder: Vocoder) -> StreamContext:
        """The full context on both sides: joined chunks equal the whole."""
        return cls(
            left_context_frames=vocoder.context_frames,
            right_context_frames=vocoder.right_context_frames,
        )


@dataclass(frozen=True)
class AudioChunk:
    """waveform: [W] float32, 16 kHz; units: merged units; frames: their length in 20 ms.

    Held-back samples move from the chunk that holds them to the next one, so W may differ from
    frames * 320; over a reply it adds up.
    """

    waveform: np.ndarray
    units: int
    frames: int


@dataclass(frozen=True)
class StreamState:
    """One reply, between two calls. Units and frames are counted from the reply's start.

    units: the last units, from number `first_unit` on, as far back as durations look;
    frame_units: timed frames from number `first_frame` on, as far back as sound looks;
    ends: for units that have their duration and are not yet made, the frame after their last;
    timed: units with a duration; made_frames: frames that are in a chunk; chunk: its number;
    source: the excitation's phase at a frame where it is final;
    held: the end of the last chunk, to be faded into the next.
    """

    units: tuple[int, ...] = ()
    first_unit: int = 0
    frame_units: tuple[int, ...] = ()
    first_frame: int = 0
    ends: tuple[int, ...] = ()
    timed: int = 0
    made_frames: int = 0
    chunk: int = 0
    source: SourceState = field(default_factory=SourceState)
    held: np.ndarray | None = None

    @property
    def known_frames(self) -> int:
        """Frames of the reply that are known so far, those already forgotten among them."""
        return self.first_frame + len(self.frame_units)


class StreamingVocoder:
    """One set of weights for any number of sessions; each session keeps its own StreamState."""

    def __init__(
        self, vocoder: Vocoder, schedule: ChunkSchedule, context: StreamContext | None = None
    ) -> None:
        self.vocoder = vocoder
        self.schedule = schedule
        self.context = context or StreamContext.recommended(vocoder)
        self._fades = self.context.right_context_frames < vocoder.right_context_frames
        # The faded samples lie before the chunk, and they too want their full left context.
        held_frames = math.ceil(self.context.crossfade_samples / vocoder.samples_per_frame)
        self._left = self.context.left_context_frames + (held_frames if self._fades else 0)

    def initial_state(self) -> StreamState:
        """The state before the first unit of a reply."""
        return StreamState()

    @torch.inference_mode()
    def step(
        self, units: Sequence[int], state: StreamState
    ) -> tuple[list[AudioChunk], StreamState]:
        """The next merged units of a reply -> the chunks that can be made now.

        Raises ValueError for a unit that the vocoder does not know.
        """
        if len(units) == 0:
            return [], state
        self.vocoder.check_units(torch.as_tensor(units))
        state = replace(state, units=state.units + tuple(int(unit) for unit in units))
        return self._make(self._time(state, last=False), last=False)

    @torch.inference_mode()
    def finish(self, state: StreamState) -> list[AudioChunk]:
        """What is left of the reply; its true end is known now, and the sound there is exact."""
        chunks, _ = self._make(self._time(state, last=True), last=True)
        return chunks

    def _time(self, state: StreamState, *, last: bool) -> StreamState:
        """Give durations to the units whose look-ahead is there (all, at the end)."""
        lookahead = self.vocoder.duration_lookahead
        until = state.first_unit + len(state.units) - (0 if last else lookahead)
        if until <= state.timed:
            return state
        window = torch.tensor(state.units, device=self.vocoder.device)
        # The window's start is cut, which spoils only units that had their duration before.
        durations = self.vocoder.durations(window).tolist()
        frames, ends, end = list(state.frame_units), list(state.ends), state.known_frames
        for place in range(state.timed - state.first_unit, until - state.first_unit):
            frames += [state.units[place]] * durations[place]
            end += durations[place]
            ends.append(end)
        drop = max(0, until - lookahead - state.first_unit)
        return replace(
            state,
            units=state.units[drop:],
            first_unit=state.first_unit + drop,
            frame_units=tuple(frames),
            ends=tuple(ends),
            timed=until,
        )

    def _make(self, state: StreamState, *, last: bool) -> tuple[list[AudioChunk], StreamState]:
        """Make every chunk whose units and right context are there (all, at the end)."""
        chunks: list[AudioChunk] = []
        while state.ends:
            size = self.schedule.size(state.chunk)
            if not last and (size is None or len(state.ends) < size):
                break
            count = len(state.ends) if size is None else min(size, len(state.ends))
            wanted = state.ends[count - 1] + self.context.right_context_frames
            if not last and wanted > state.known_frames:
                break
            chunk, state = self._render(state, count, min(wanted, state.known_frames), last=last)
            chunks.append(chunk)
        return chunks, state

    def _render(
        self, state: StreamState, count: int, until: int, *, last: bool
    ) -> tuple[AudioChunk, StreamState]:
        """One chunk of `count` units, seeing the frames before number `until`."""
        vocoder, hop = self.vocoder, self.vocoder.samples_per_frame
        begin, end = state.made_frames, state.ends[count - 1]
        start = self._window_start(begin, state.source.frame)
        window = state.frame_units[start - state.first_frame : until - state.first_frame]
        rendering = vocoder.render(
            torch.tensor(window, device=vocoder.device), state.source, first_frame=start
        )
        waveform = rendering.waveform.cpu().numpy()

        held = 0 if state.held is None else len(state.held)
        made = waveform[(begin - start) * hop - held : (end - start) * hop].copy()
        if state.held is not None:
            made[:held] = _fade(state.held, made[:held])
        is_end = last and count == len(state.ends)
        hold = 0
        if self._fades and not is_end:
            hold = min(self.context.crossfade_samples, (end - begin) * hop)

        # Phases near a cut still change with what follows: go on from the last final one.
        reaches_end = last and until == state.known_frames
        final = until if reaches_end else until - vocoder.source_right_context_frames
        frame = max(state.source.frame, min(end, final))
        source = SourceState(float(rendering.phases[frame - start]), frame)
        first_frame = min(self._window_start(end, frame), state.known_frames)
        chunk = AudioChunk(made[: len(made) - hold], count, end - begin)
        return chunk, replace(
            state,
            frame_units=state.frame_units[first_frame - state.first_frame :],
            first_frame=first_frame,
            ends=state.ends[count:],
            made_frames=end,
            chunk=state.chunk + 1,
            source=source,
            held=made[len(made) - hold :] if hold else None,
        )

    def _window_start(self, begin: int, source_frame: int) -> int:
        """The first frame that a chunk from `begin` on must see."""
        by_source = source_frame - self.vocoder.source_context_frames
        return max(0, min(begin - self._left, by_source))


def _fade(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """[W], [W] -> [W]: from the old to the new by a raised cosine, gains adding up to 1."""
    place = (np.arange(len(old), dtype=np.float32) + 0.5) / len(old)
    gain = 0.5 - 0.5 * np.cos(np.pi * place)
    return old * (1.0 - gain) + new * gain
