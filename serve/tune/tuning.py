"""Which chunk size suits this machine: first-audio latency against seam error, measured.

Every schedule answers the same questions with the same words and units (that is checked), so
what differs is when sound comes and how well its chunks join.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omni.audio import SAMPLE_RATE
from omni.files import CheckpointError, UserError, read_json, shipped, write_json
from omni.metrics import SeamError, seam_error
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.session import AudioDelta, Chunk, Done, SessionConfig, SpeechSession, TextDelta
from omni.vocoder import RIGHT_CONTEXT_SETTING, SETTING, ChunkSchedule, Vocoder, vocode

# -40 dB: far below what separates a vocoder from the voice that it learnt. Choices whose seams are
# all below it count as equal, and the earlier one wins.
INAUDIBLE = 1e-2


@dataclass(frozen=True, kw_only=True)
class Playback:
    """What a listener's player would have met: times it ran dry, and for how long in all."""

    underruns: int
    stalled_ms: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One question answered under one schedule.

    first_audio_ms: after the last input sample; lagging_words: words of text that were said before
    the first sound came; real_time_factor: total time over duration of the reply.
    """

    schedule: str
    question: int
    first_audio_ms: float
    lagging_words: int
    real_time_factor: float
    playback: Playback
    seams: SeamError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One schedule over all its replies. Underruns and replies are counts, lagging words a mean,
    the real-time factor a median, seam errors root mean squares."""

    schedule: str
    replies: int
    first_audio_p50_ms: float
    first_audio_p95_ms: float
    lagging_words: float
    real_time_factor: float
    underruns: int
    stalled_ms: float
    seam_error: float
    border_error: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how it was measured; load averages of one minute, before and after."""

    cores: int
    torch_threads: int
    device: str
    load_before: float
    load_after: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """best: the schedule to use; None if none keeps the budget."""

    rows: tuple[Row, ...]
    best: str | None
    budget_ms: float | None
    questions: int
    mute: int  # questions whose reply has no sound, left out
    repeats: int
    machine: Machine

    def as_json(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Reply:
    """A reply as it was heard."""

    done: Done
    waveforms: list[np.ndarray]
    lagging_words: int


def measure(
    model: OmniForConditionalGeneration,
    processor: OmniProcessor,
    questions: Sequence[np.ndarray],
    schedules: Sequence[ChunkSchedule],
    config: SessionConfig,
    *,
    repeats: int = 3,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Iterator[Measurement]:
    """Answer every question under every schedule, `repeats` times; mute replies give nothing.

    The schedules take turns, question by question, so that drifting load hits them all alike.
    progress: called with (replies done, replies in all).
    Raises UserError if the model has no voice, RuntimeError if a schedule changed what was said.
    """
    if model.unit_decoder is None or not isinstance(model.vocoder, Vocoder):
        raise UserError(
            "checkpoint: has no voice (unit decoder and vocoder), so there is no chunk size to "
            "tune; train stage 2 first"
        )
    total = repeats * len(questions) * len(schedules)
    said: dict[int, Done] = {}
    whole: dict[int, np.ndarray] = {}
    finished = 0
    for _ in range(repeats):
        for number, question in enumerate(questions):
            for schedule in schedules:
                asked = replace(config, schedule=schedule, speak=True)
                reply = _listen(SpeechSession(model, processor, asked), question)
                finished += 1
                progress(finished, total)
                _check_same(said.setdefault(number, reply.done), reply.done, number, schedule)
                if not reply.waveforms:
                    continue
                if number not in whole:
                    units = torch.tensor(reply.done.units)
                    whole[number] = vocode(model.vocoder, units).float().cpu().numpy()
                yield _measurement(number, schedule, reply, whole[number])


def _listen(session: SpeechSession, question: np.ndarray) -> _Reply:
    text, lagging, waveforms = "", 0, []
    for event in session.ask(question):
        if isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, AudioDelta):
            if not waveforms:
                lagging = len(text.split())
            waveforms.append(event.waveform)
        else:
            return _Reply(event, waveforms, lagging)
    raise AssertionError("a reply ends with Done")


def _check_same(first: Done, other: Done, question: int, schedule: ChunkSchedule) -> None:
    if (first.token_ids, first.units) != (other.token_ids, other.units):
        raise RuntimeError(
            f"question {question}: schedule {schedule} changed the reply from {first.text!r} "
            f"({len(first.units)} units) to {other.text!r} ({len(other.units)} units); a schedule "
            "may only change when sound comes. This is a defect of omni: please report it"
        )


def _measurement(
    number: int, schedule: ChunkSchedule, reply: _Reply, whole: np.ndarray
) -> Measurement:
    timings = reply.done.timings
    assert timings.first_audio_ms is not None and timings.real_time_factor is not None
    return Measurement(
        schedule=str(schedule),
        question=number,
        first_audio_ms=timings.first_audio_ms,
        lagging_words=reply.lagging_words,
        real_time_factor=timings.real_time_factor,
        playback=play(reply.done.chunks),
        seams=seam_error(whole, reply.waveforms),
    )


def play(chunks: Sequence[Chunk]) -> Playback:
    """Play chunks as they arrive, each after the one before; the first starts the player."""
    underruns, stalled_ms = 0, 0.0
    ends_ms = chunks[0].at_ms if chunks else 0.0  # when what has arrived so far has been played
    for chunk in chunks:
        if chunk.at_ms > ends_ms:
            underruns += 1
            stalled_ms += chunk.at_ms - ends_ms
            ends_ms = chunk.at_ms
        ends_ms += 1000 * chunk.samples / SAMPLE_RATE
    return Playback(underruns=underruns, stalled_ms=stalled_ms)


def summarise(measurements: Sequence[Measurement]) -> tuple[Row, ...]:
    """One row per schedule, in the order in which they were measured."""
    rows = []
    for schedule in dict.fromkeys(m.schedule for m in measurements):
        group = [m for m in measurements if m.schedule == schedule]
        first_audio = np.array([m.first_audio_ms for m in group])
        row = Row(
            schedule=schedule,
            replies=len(group),
            first_audio_p50_ms=float(np.percentile(first_audio, 50)),
            first_audio_p95_ms=float(np.percentile(first_audio, 95)),
            lagging_words=float(np.mean([m.lagging_words for m in group])),
            real_time_factor=float(np.median([m.real_time_factor for m in group])),
            underruns=sum(m.playback.underruns for m in group),
            stalled_ms=sum(m.playback.stalled_ms for m in group),
            seam_error=_root_mean_square([m.seams.overall for m in group]),
            border_error=_root_mean_square([m.seams.at_borders for m in group]),
        )
        rows.append(row)
    return tuple(rows)


def choose(rows: Sequence[Row], budget_ms: float | None) -> Row | None:
    """The best schedule whose p95 of first-audio latency keeps the budget; None if none does.

    Best: plays without running dry, then fewest audible seams, then earliest sound.
    """
    within = [row for row in rows if budget_ms is None or row.first_audio_p95_ms <= budget_ms]
    return min(
        within,
        key=lambda row: (
            row.underruns > 0,
            max(row.border_error, INAUDIBLE),
            row.first_audio_p50_ms,
        ),
        default=None,
    )


def report(
    measurements: Sequence[Measurement],
    *,
    questions: int,
    repeats: int,
    budget_ms: float | None,
    device: str,
    load_before: float,
) -> Report:
    """Everything that was found. Raises UserError if no reply has any sound."""
    if not measurements:
        raise UserError(
            f"{questions} questions: no reply has any sound; try other questions, or train stage 2"
            " for longer"
        )
    rows = summarise(measurements)
    best = choose(rows, budget_ms)
    return Report(
        rows=rows,
        best=None if best is None else best.schedule,
        budget_ms=budget_ms,
        questions=questions,
        mute=questions - len({m.question for m in measurements}),
        repeats=repeats,
        machine=Machine(
            cores=len(os.sched_getaffinity(0)),
            torch_threads=torch.get_num_threads(),
            device=device,
            load_before=load_before,
            load_after=os.getloadavg()[0],
        ),
    )


def settings_of(checkpoint: str | Path) -> Path:
    """Where its generation settings lie. Raises CheckpointError if it is no local folder."""
    folder = shipped(str(checkpoint)) or Path(checkpoint)
    if not folder.is_dir():
        raise CheckpointError(
            f"{checkpoint}: no local folder, so its settings cannot be written; download it first"
        )
    return folder / "generation_config.json"


def write_schedule(checkpoint: str | Path, schedule: str, right_context_frames: int | None) -> Path:
    """Put the schedule, and the right context that it was measured with, into the checkpoint's
    generation settings; the rest of them stays. None: the vocoder's own, which is not written.

    Raises CheckpointError if the checkpoint is no local folder.
    """
    path = settings_of(checkpoint)
    settings = read_json(path) if path.is_file() else {}
    # transformers drops what it does not know from settings that bear this mark of its own.
    settings.pop("_from_model_config", None)
    settings.pop(RIGHT_CONTEXT_SETTING, None)
    chosen: dict[str, str | int] = {SETTING: schedule}
    if right_context_frames is not None:
        chosen[RIGHT_CONTEXT_SETTING] = right_context_frames
    write_json(path, settings | chosen)
    return path


def _root_mean_square(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
