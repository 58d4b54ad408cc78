"""A folder of clips that a plan asks for: claimed, filled by all cores, and counted.

Every clip is written aside and renamed, and what it holds depends only on the plan: a run that was
killed goes on where it stopped and ends with the same files.
"""

import hashlib
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_tools.manifest import Record, RecordTurn
from data_tools.speech.augmentation import EFFECTS, augment
from data_tools.speech.speak import SAMPLE_RATE, TextToSpeech
from data_tools.speech.voices import ANSWER_VOICE, Voice
from omni.audio import save_wav
from omni.files import write_text

STATE = "state.json"
READING_HELD_OUT = 20  # one clip of so many validates the vocoder
WAV_HEADER_BYTES = 44
BYTES_PER_SAMPLE = 2


@dataclass(frozen=True, kw_only=True)
class PlannedClip:
    """One recording to make; path is relative to the data set's folder.

    effect: one of EFFECTS that it is heard through, or "" for none.
    """

    path: str
    text: str
    voice: Voice
    effect: str = ""


def answered(folder: str, text: str) -> PlannedClip:
    """The text in the voice of the answers; equal texts are one clip."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return PlannedClip(path=f"audio/{folder}/{digest}.wav", text=text, voice=ANSWER_VOICE)


def reading_record(clip: PlannedClip, provenance: dict[str, str]) -> Record:
    """Of a clip in the voice of the answers that only reads a text aloud."""
    turns = (
        RecordTurn(role="user", text="Read this aloud."),
        RecordTurn(role="assistant", text=clip.text, speech=clip.path, voice=str(clip.voice)),
    )
    held_out = zlib.crc32(Path(clip.path).name.encode()) % READING_HELD_OUT == 0
    return Record(
        id=Path(clip.path).stem,
        turns=turns,
        split="validation" if held_out else "train",
        provenance=provenance,
    )


def fill(
    folder: Path,
    clips: Iterable[PlannedClip],
    *,
    workers: int | None,
    make_tts: Callable[[], TextToSpeech],
) -> int:
    """Makes the clips that are not there yet, and says how many these were.

    workers: engines running side by side, each made by make_tts; all cores unless given.
    """
    waiting = [clip for clip in clips if not (folder / clip.path).exists()]
    make_clips(folder, waiting, workers=workers or os.cpu_count() or 1, make_tts=make_tts)
    return len(waiting)


def make_clips(
    folder: Path,
    clips: Sequence[PlannedClip],
    *,
    workers: int,
    make_tts: Callable[[], TextToSpeech],
) -> None:
    """Writes the clips, `workers` at a time.

    Threads are enough: the work is done by the engines' own processes.
    """
    for parent in {(folder / clip.path).parent for clip in clips}:
        parent.mkdir(parents=True, exist_ok=True)
    engines = threading.local()
    started: list[TextToSpeech] = []

    def start() -> None:
        engines.tts = make_tts()
        started.append(engines.tts)

    def make(clip: PlannedClip) -> None:
        waveform = engines.tts.speak(clip.text, clip.voice)
        save_wav(folder / clip.path, through(waveform, clip) if clip.effect else waveform)

    pool = ThreadPoolExecutor(workers, initializer=start)
    try:
        for _ in tqdm(pool.map(make, clips), total=len(clips), unit="clip", desc="speaking"):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
        for tts in started:
            tts.close()


def through(waveform: np.ndarray, clip: PlannedClip) -> np.ndarray:
    """What is heard of the recording through the clip's effect, drawn by its name."""
    rng = np.random.default_rng(zlib.crc32(Path(clip.path).name.encode()))
    return augment(waveform, rng, EFFECTS[clip.effect])


def engine_versions(make_tts: Callable[[], TextToSpeech]) -> dict[str, str]:
    """Engine -> version of all that `make_tts` needs; its engines are closed again."""
    tts = make_tts()
    try:
        return tts.versions()
    finally:
        tts.close()


def claim(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes state.json, or refuses a folder that was begun with other options.

    Raises ValueError that says which, or what they give.
    """
    path = folder / STATE
    if path.exists():
        before = json.loads(path.read_text())
        for name, value in state.items():
            if before.get(name) == value:
                continue
            if name == "contents":  # a digest, which tells nobody what to mend
                raise ValueError(
                    f"{path}: was begun with other words, or other voices, than these options "
                    "give; give the same files of texts and folders of voices again, or another "
                    "folder"
                )
            raise ValueError(
                f"{path}: was begun with {name}={before.get(name)!r}, not {value!r}; use the "
                "same again, or another folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(state, indent=2) + "\n")


def hours_of(folder: Path, clips: Iterable[PlannedClip]) -> dict[str, float]:
    """Hours by what the clips are: questions by their split, others by their folder.

    Paths are audio/questions/SPLIT/FILE, or audio/KIND/FILE.
    """
    hours: dict[str, float] = {}
    for clip in clips:
        parts = Path(clip.path).parts
        name = parts[2] if parts[1] == "questions" else parts[1]
        samples = ((folder / clip.path).stat().st_size - WAV_HEADER_BYTES) / BYTES_PER_SAMPLE
        hours[name] = hours.get(name, 0.0) + samples / SAMPLE_RATE / 3600
    return hours
