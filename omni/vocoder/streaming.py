"""The vocoder chunk by chunk: the same timing and the same sound as the whole reply.

A vocoder looks both ways. What came before is in its state, and every frame is given to it once.
What follows is waited for, as far as the context says. Where that is less than the vocoder looks
ahead, the end of the chunk is made as if the reply ended there, without being remembered; it is
cross-faded into the next chunk's version of the same samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from omni.vocoder.base import Vocoder
from omni.vocoder.chunking import ChunkSchedule
from omni.vocoder.pace import Pace
from omni.vocoder.stream_context import StreamContext

NO_SOUND = np.zeros(0, np.float32)


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
    """One reply, between two calls. Units, frames and samples are counted from the reply's start.

    sound: the vocoder's own state.
    units: the last units, from number `first_unit` on, as far back as durations look;
    frame_units: timed frames from number `first_frame` on, which the vocoder has not yet seen;
    ends: for units that have their duration and are in no chunk yet, the frame after their last;
    timed: units with a duration; made_frames: frames that are in a chunk; chunk: its number;
    ready: final samples in no chunk yet (the last chunk's end among them, where it was cut), up to
    sample `ready_until`, with which the vocoder goes on;
    held: the end of the last chunk, to be faded into the next.
    """

    sound: Any
    units: tuple[int, ...] = ()
    first_unit: int = 0
    frame_units: tuple[int, ...] = ()
    first_frame: int = 0
    ends: tuple[int, ...] = ()
    timed: int = 0
    made_frames: int = 0
    chunk: int = 0
    ready: np.ndarray = field(default_factory=lambda: NO_SOUND)
    ready_until: int = 0
    held: np.ndarray = field(default_factory=lambda: NO_SOUND)
    pace: Pace = field(default_factory=Pace)

    @property
    def known_frames(self) -> int:
        """Frames of the reply that are known so far, those already forgotten among them."""
        return self.first_frame + len(self.frame_units)


class StreamingVocoder:
    """One set of weights for any number of sessions; each session keeps its own StreamState.

    context: None: as recommended. clock: seconds; it tells a schedule how fast a reply is made.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        schedule: ChunkSchedule,
        context: StreamContext | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.vocoder = vocoder
        self.schedule = schedule
        self.context = context or StreamContext.recommended(vocoder)
        self.clock = clock

    @torch.inference_mode()
    def initial_state(self) -> StreamState:
        """The state before the first unit of a reply."""
        return StreamState(self.vocoder.initial_state())

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
        state = replace(
            state,
            units=state.units + tuple(int(unit) for unit in units),
            pace=state.pace.came(len(units), self.clock()),
        )
        return self._make(self._time(state, last=False), last=False)

    @torch.inference_mode()
    def finish(self, state: StreamState) -> list[AudioChunk]:
        """What is left of the reply; its true end is known now, and the sound there is exact."""
        chunks, _ = self._make(self._time(state, last=True), last=True)
        return chunks

    def unplayed_seconds(self, state: StreamState) -> float | None:
        """How long what was sent will still play, less than 0 since it ended; None before that."""
        return state.pace.ends - self.clock() if state.chunk else None

    def heard(self, state: StreamState, *, played_until: float) -> StreamState:
        """The listener will have played all that was sent at this time of the clock.

        Without this, playing is taken to begin when a chunk is made, and never to pause.
        """
        return replace(state, pace=replace(state.pace, ends=played_until))

    def _time(self, state: StreamState, *, last: bool) -> StreamState:
        """Give durations to the units whose look-ahead is there (all, at the end)."""
        # The last unit always waits: its chunk is made at the end, with all that is held till then.
        lookahead = max(1, self.vocoder.duration_lookahead)
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
            right = self.context.of_chunk(state.chunk)
            until = state.known_frames - (0 if last else right)
            makeable = sum(end <= until for end in state.ends)
            seconds = state.known_frames * self.vocoder.samples_per_frame / self.vocoder.sample_rate
            progress = state.pace.progress(
                makeable, self.clock(), unit_seconds=seconds / state.timed
            )
            size = self.schedule.size(state.chunk, progress)
            if not last and (size is None or makeable < size):
                break
            count = len(state.ends) if size is None else min(size, len(state.ends))
            began = self.clock()
            chunk, state = self._render(state, count, right, last=last)
            seconds = len(chunk.waveform) / self.vocoder.sample_rate
            state = replace(state, pace=state.pace.sent(count, seconds, self.clock(), began=began))
            chunks.append(chunk)
        return chunks, state

    def _render(
        self, state: StreamState, count: int, right: int, *, last: bool
    ) -> tuple[AudioChunk, StreamState]:
        """One chunk of `count` units, that sees `right` frames behind it."""
        hop, held = self.vocoder.samples_per_frame, state.held
        begin, end = state.made_frames, state.ends[count - 1]
        start = state.ready_until - len(state.ready)
        made = state.ready
        if state.ready_until < end * hop:
            sound, state = self._advance(state, end, right, last=last)
            made = np.concatenate([made, sound])

        waveform = made[begin * hop - len(held) - start : end * hop - start].copy()
        waveform[: len(held)] = _fade(held, waveform[: len(held)])
        cut = state.ready_until < end * hop
        hold = min(self.context.crossfade_samples, (end - begin) * hop) if cut else 0
        said = len(waveform) - hold
        return AudioChunk(waveform[:said], count, end - begin), replace(
            state,
            ends=state.ends[count:],
            made_frames=end,
            chunk=state.chunk + 1,
            # Copies, so that no state keeps the sound of a long chunk alive.
            ready=made[max(0, end * hop - hold - start) : state.ready_until - start].copy(),
            held=waveform[said:].copy(),
        )

    def _advance(
        self, state: StreamState, end: int, right: int, *, last: bool
    ) -> tuple[np.ndarray, StreamState]:
        """Show the vocoder `right` frames behind frame `end` -> its samples from `ready_until` to
        that frame or further, and the state after the final ones."""
        seen = max(state.first_frame, min(end + right, state.known_frames))
        fresh = seen - state.first_frame
        spare: int | None = None
        ended = last and seen == state.known_frames
        if ended:
            spare = 0  # everything that is left, at once
        elif seen - end < self.vocoder.right_context_frames:
            spare = seen - end
        units = torch.tensor(
            [state.frame_units[:fresh]], dtype=torch.int64, device=self.vocoder.device
        )
        signal, sound = self.vocoder.step(units, state.sound, spare_frames=spare)
        waveform = signal.values[0].cpu().numpy()
        final = len(waveform) if ended else signal.final
        return waveform, replace(
            state,
            sound=sound,
            frame_units=state.frame_units[fresh:],
            first_frame=seen,
            ready_until=state.ready_until + final,
        )


def _fade(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """[W], [W] -> [W]: from the old to the new by a raised cosine, gains adding up to 1."""
    place = (np.arange(len(old), dtype=np.float32) + 0.5) / max(1, len(old))
    gain = 0.5 - 0.5 * np.cos(np.pi * place)
    return old * (1.0 - gain) + new * gain
