"""Checks of recordings and units: each clip is decoded once, by all cores."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from data_tools.check.findings import Finding
from data_tools.manifest import Manifest, Record, RecordTurn
from data_tools.speech import ClipRules, ClipStats, faults, is_sound, measure, spoken_letters
from data_tools.steps import Executor, LocalExecutor
from omni.audio import SAMPLE_RATE, prepare
from omni.ctc import required_frames

UNITS_PER_S = (2.0, 50.0)  # 50 frames a second; 29 merged units is what speech has
BATCH = 100  # recordings that a worker listens to at a time
PACE_DEVIATIONS = 6.0  # robust standard deviations from the voice's median


@dataclass(frozen=True)
class CheckedClip:
    """What decoding a recording told; stats is None where it couldn't be decoded."""

    stats: ClipStats | None
    fault: str = ""  # "missing file", "unreadable"
    detail: str = ""


@dataclass(frozen=True)
class Listening:
    """The job of decoding recordings: paths from the root -> Clips."""

    @property
    def workers(self) -> int | None:
        """One per core: decoding keeps one busy."""
        return None

    @property
    def device(self) -> str:
        """The CPU, which decodes."""
        return "cpu"

    def open(self, root: Path) -> Listener:
        """A listener to recordings below `root`."""
        return Listener(root)


@dataclass(frozen=True)
class Listener:
    """Decodes recordings by their path from `root`; holds nothing open."""

    root: Path

    def __call__(self, paths: Sequence[str]) -> list[CheckedClip]:
        """A CheckedClip for each path, in order."""
        return [read_clip(self.root / path) for path in paths]

    def close(self) -> None:
        """Holds nothing."""
        pass


def measure_clips(
    manifest: Manifest, *, sample: int | None, seed: int, executor: Executor | None = None
) -> dict[str, CheckedClip]:
    """path -> CheckedClip of every recording, or of `sample` drawn ones."""
    paths = sorted(
        {turn.speech for record in manifest.records for turn in record.turns if turn.speech}
    )
    if sample is not None and sample < len(paths):
        drawn = np.random.default_rng(seed).choice(len(paths), sample, replace=False)
        paths = [paths[index] for index in sorted(drawn)]
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    found: dict[str, CheckedClip] = {}
    running = (executor or LocalExecutor()).run(Listening(), batches, root=manifest.root)
    with closing(running), tqdm(total=len(paths), desc="listening", unit="clip") as bar:
        for place, clips in running:
            found.update(zip(batches[place], clips, strict=True))
            bar.update(len(clips))
    return {path: found[path] for path in paths}


def read_clip(path: Path) -> CheckedClip:
    """What decoding the recording tells; a missing or broken file is a fault, not an error."""
    if not path.is_file():
        return CheckedClip(None, "missing file", str(path))
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        stats = measure(prepare(samples, rate, name=str(path)))
    except (soundfile.LibsndfileError, ValueError) as error:
        return CheckedClip(None, "unreadable", str(error))
    channels = samples.shape[1]
    odd = rate != SAMPLE_RATE or channels != 1
    return CheckedClip(
        stats, "format" if odd else "", f"{rate} Hz, {channels} channels" if odd else ""
    )


def spoken_turns(
    records: Sequence[Record], clips: dict[str, CheckedClip]
) -> Iterator[tuple[Record, int, RecordTurn, CheckedClip]]:
    """(record, turn from 1, turn, clip) of every turn whose recording was listened to."""
    for record in records:
        for number, turn in enumerate(record.turns, start=1):
            if turn.speech is not None and turn.speech in clips:
                yield record, number, turn, clips[turn.speech]


def speech_findings(
    records: Sequence[Record],
    clips: dict[str, CheckedClip],
    *,
    rules: ClipRules,
    max_question_s: float,
) -> Iterator[Finding]:
    """What breaks `rules`, what the encoder cannot hear whole, and speech at an odd pace."""
    for record, number, turn, clip in spoken_turns(records, clips):
        if clip.fault:
            yield Finding(rule=clip.fault, record=record.id, turn=number, detail=clip.detail)
        if clip.stats is None or is_sound(turn.voice):
            continue
        for rule, detail in faults(clip.stats, turn.text, rules).items():
            yield Finding(
                rule=rule,
                record=record.id,
                turn=number,
                detail=detail,
                badness=badness(rule, clip.stats, turn.text),
            )
        if turn.role == "user" and clip.stats.seconds > max_question_s:
            yield Finding(
                rule="too long",
                record=record.id,
                turn=number,
                detail=f"{clip.stats.seconds:.1f} s, the encoder hears {max_question_s:.0f} s",
                badness=clip.stats.seconds,
            )
    yield from pace_findings(records, clips)


def badness(rule: str, stats: ClipStats, text: str) -> float:
    """How far a clip is from what the rule wants: the larger, the worse."""
    pace = letters_per_s(stats, text)
    measures = {
        "clipped": stats.clipped,
        "silent": stats.silence - stats.peak_db / 100,
        "empty": -stats.seconds,
        "too fast": pace,
        "too slow": -pace,
    }
    return measures[rule]


def letters_per_s(stats: ClipStats, text: str) -> float:
    """Pace of a clip, by its text's letters and digits."""
    return spoken_letters(text) / max(stats.seconds, 0.01)


def pace_findings(records: Sequence[Record], clips: dict[str, CheckedClip]) -> Iterator[Finding]:
    """Outliers among the clips of one voice, on a log scale, by median and its deviation."""
    by_voice: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)
    for record, number, turn, clip in spoken_turns(records, clips):
        if clip.stats is not None and spoken_letters(turn.text):
            pace = np.log(letters_per_s(clip.stats, turn.text))
            by_voice[turn.voice or turn.role][record.id, number] = float(pace)
    for voice, paces in by_voice.items():
        values = np.array(list(paces.values()))
        median = float(np.median(values))
        # At least 10 %: a voice with few texts would call its second one an outlier.
        deviation = max(1.4826 * float(np.median(np.abs(values - median))), 0.1)
        for (record_id, number), pace in paces.items():
            distance = abs(pace - median) / deviation
            if distance > PACE_DEVIATIONS:
                yield Finding(
                    rule="pace",
                    record=record_id,
                    turn=number,
                    detail=f"{np.exp(pace):.1f} letters/s; {voice} mostly {np.exp(median):.1f}",
                    badness=distance,
                )


def unit_findings(
    records: Sequence[Record],
    clips: dict[str, CheckedClip],
    *,
    upsample: int,
    count_tokens: Callable[[str], int],
) -> Iterator[Finding]:
    """Rate, and feasibility: response tokens and the end token give `upsample` steps each."""
    for record in records:
        for number, turn in enumerate(record.turns, start=1):
            if not turn.units:
                continue
            available = upsample * (count_tokens(turn.text) + 1)
            needed = required_frames(turn.units)
            if needed > available:
                yield Finding(
                    rule="infeasible",
                    record=record.id,
                    turn=number,
                    detail=f"its units need {needed} steps, its text gives {available}",
                    badness=needed / available,
                )
            clip = clips.get(turn.speech or "")
            if clip is None or clip.stats is None:
                continue
            rate = len(turn.units) / max(clip.stats.seconds, 0.01)
            if rate > UNITS_PER_S[1]:
                detail = f"{len(turn.units)} units in {clip.stats.seconds:.2f} s"
                yield Finding(rule="foreign units", record=record.id, turn=number, detail=detail)
            elif rate < UNITS_PER_S[0]:
                yield Finding(
                    rule="unit rate",
                    record=record.id,
                    turn=number,
                    detail=f"{rate:.1f} merged units a second, at least {UNITS_PER_S[0]:.0f}",
                    badness=-rate,
                )


def at_least_tokens(text: str) -> int:
    """Words and marks: fewer tokens than these no tokenizer in use makes of a text."""
    return len(re.findall(r"\w+|[^\w\s]", text))
