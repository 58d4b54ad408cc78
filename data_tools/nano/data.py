"""The nano's data set: its dialogues, spoken by the engines of `speak`.

DIR/records.jsonl  spoken dialogues in four splits: train, validation, test_seen (held-out
                   phrasings, voices of training), test_unseen (the same, a voice never trained on)
DIR/text.jsonl     all dialogues as text, for the base language model
DIR/reading.jsonl  the voice of the answers reads the training questions aloud: its units and
                   vocoder need more words than the answers have
DIR/audio/         questions/<split>/<record>.<turn>.wav, answers and reading/<hash of the text>.wav
DIR/state.json     what was asked for; a folder with other contents is refused

Every clip is written aside and renamed, and what it holds depends only on (seed, record id): a run
that was killed goes on where it stopped and ends with the same files. The .jsonl come last.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_tools.manifest import write_manifest
from data_tools.nano.plan import (
    AnyDialogue,
    PlannedClip,
    SpokenDialogue,
    file_name,
    plan,
    reading,
    reading_record,
    text_record,
)
from data_tools.speech import SAMPLE_RATE, InstalledEngines, TextToSpeech
from omni.audio import save_wav
from omni.files import write_text

QUESTIONS = 15_000  # spoken question turns for training, about 9 h
FORMAT_VERSION = 2
WAV_HEADER_BYTES = 44
BYTES_PER_SAMPLE = 2


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What lies in the folder afterwards; made_clips of the clips are new."""

    records: dict[str, int]  # by split
    hours: dict[str, float]  # by split of the questions, "answers", and "reading"
    clips: int
    made_clips: int


def build_nano(
    folder: str | Path,
    dialogues: Iterable[AnyDialogue],
    *,
    questions: int = QUESTIONS,
    seed: int = 0,
    workers: int | None = None,
    make_tts: Callable[[], TextToSpeech] = InstalledEngines,
) -> Summary:
    """Speaks the dialogues into `folder`, or goes on with what an earlier run began there.

    questions: spoken question turns for training; every phrasing comes before any is repeated, and
        it is repeated by another voice.
    workers: engines running side by side; all cores unless given.
    make_tts: called once per worker.
    Raises ValueError if the folder was begun with other options.
    """
    folder, dialogues = Path(folder), list(dialogues)
    check(dialogues, questions=questions, workers=workers)
    claim(folder, dialogues, questions=questions, seed=seed, make_tts=make_tts)
    spoken = plan(dialogues, questions=questions, seed=seed)
    read = reading(dialogues)
    asked_and_answered = [clip for item in spoken for clip in item.clips()]
    clips = list({clip.path: clip for clip in [*asked_and_answered, *read]}.values())
    waiting = [clip for clip in clips if not (folder / clip.path).exists()]
    make_clips(folder, waiting, workers=workers or os.cpu_count() or 1, make_tts=make_tts)
    write_manifest(folder / "text.jsonl", [text_record(dialogue) for dialogue in dialogues])
    write_manifest(folder / "reading.jsonl", [reading_record(clip) for clip in read])
    write_manifest(folder / "records.jsonl", [item.record() for item in spoken])
    return summary(folder, spoken, clips, made=len(waiting))


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
        save_wav(folder / clip.path, engines.tts.speak(clip.text, clip.voice))

    pool = ThreadPoolExecutor(workers, initializer=start)
    try:
        for _ in tqdm(pool.map(make, clips), total=len(clips), unit="clip", desc="speaking"):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
        for tts in started:
            tts.close()


def check(dialogues: Sequence[AnyDialogue], *, questions: int, workers: int | None) -> None:
    """Raises ValueError for counts below 1, an unknown split and an id that two dialogues have."""
    if questions < 1:
        raise ValueError(f"questions={questions}: must be at least 1; the default is {QUESTIONS}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers}: must be at least 1; leave it out to use all cores")
    if not any(dialogue.split == "train" for dialogue in dialogues):
        raise ValueError("dialogues: none is in the split 'train'; give at least one")
    names: set[str] = set()
    for dialogue in dialogues:
        if dialogue.split not in ("train", "validation", "test"):
            raise ValueError(
                f"dialogue {dialogue.id!r} has split {dialogue.split!r}: must be train, validation "
                "or test; rename it"
            )
        name = file_name(dialogue)
        if name in names:
            raise ValueError(f"dialogue id {dialogue.id!r}: must be unique, '/' as '-'; rename it")
        names.add(name)


def claim(
    folder: Path,
    dialogues: Sequence[AnyDialogue],
    *,
    questions: int,
    seed: int,
    make_tts: Callable[[], TextToSpeech],
) -> None:
    """Writes state.json, or refuses a folder that was begun with other options."""
    contents = json.dumps([[d.id, d.skill, d.turns, d.split] for d in dialogues])
    tts = make_tts()
    try:
        versions = tts.versions()
    finally:
        tts.close()
    state = {
        "format_version": FORMAT_VERSION,
        "dialogues": hashlib.sha256(contents.encode()).hexdigest()[:16],
        "questions": questions,
        "seed": seed,
        "engines": versions,
    }
    path = folder / "state.json"
    if path.exists():
        before = json.loads(path.read_text())
        for name, value in state.items():
            if before.get(name) != value:
                raise ValueError(
                    f"{path}: was begun with {name}={before.get(name)!r}, not {value!r}; use the "
                    "same again, or another folder"
                )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(state, indent=2) + "\n")


def summary(
    folder: Path, spoken: Sequence[SpokenDialogue], clips: Sequence[PlannedClip], *, made: int
) -> Summary:
    """Records per split, hours per kind of clip, and how many clips this run has made."""
    records: dict[str, int] = {}
    for item in spoken:
        records[item.split] = records.get(item.split, 0) + 1
    hours: dict[str, float] = {}
    for clip in clips:
        parts = Path(clip.path).parts  # audio, questions, split, file; or audio, answers, file
        name = parts[2] if parts[1] == "questions" else parts[1]
        samples = ((folder / clip.path).stat().st_size - WAV_HEADER_BYTES) / BYTES_PER_SAMPLE
        hours[name] = hours.get(name, 0.0) + samples / SAMPLE_RATE / 3600
    return Summary(records=records, hours=hours, clips=len(clips), made_clips=made)
