"""The nano's data set: its dialogues, spoken by the engines of `speak`.

DIR/records.jsonl  spoken dialogues in four splits: train, validation, test_seen (held-out
                   phrasings, voices of training), test_unseen (the same, a voice never trained on)
DIR/text.jsonl     all dialogues as text, for the base language model
DIR/audio/         questions/<split>/<record>.<turn>.wav, answers/<hash of the text>.wav
DIR/state.json     what was asked for; a folder with other contents is refused

Every clip is written aside and renamed, and what it holds depends only on (seed, record id): a run
that was killed goes on where it stopped and ends with the same files. The two .jsonl come last.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from tqdm import tqdm

from data_tools.manifest import Record, Turn, write_manifest
from data_tools.speak import SAMPLE_RATE, InstalledEngines, TextToSpeech
from data_tools.voices import ANSWER_VOICE, HELD_OUT_VOICE, Voice, random_training_voice

QUESTIONS = 12_000  # spoken question turns for training, about 7.5 h
VALIDATION_VOICES = 2  # seen voices for each held-out phrasing of validation
SOURCE = "nano_domain"
LICENCE = "made by this project; speech by flite, festival and espeak-ng"
FORMAT_VERSION = 1
WAV_HEADER_BYTES = 44
BYTES_PER_SAMPLE = 2


class Dialogue(Protocol):
    """What `nano_domain.dialogues()` gives; split is train, validation or test."""

    @property
    def id(self) -> str: ...
    @property
    def skill(self) -> str: ...
    @property
    def turns(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def split(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One recording to make; path is relative to the data set's folder."""

    path: str
    text: str
    voice: Voice


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A dialogue whose questions one voice asks."""

    id: str
    dialogue: Dialogue
    voice: Voice
    split: str

    def clips(self) -> list[Clip]:
        clips = []
        for index, (question, answer) in enumerate(self.dialogue.turns):
            path = f"audio/questions/{self.split}/{self.id}.{index}.wav"
            clips.append(Clip(path=path, text=question, voice=self.voice))
            digest = hashlib.sha256(answer.encode()).hexdigest()[:16]
            path = f"audio/answers/{digest}.wav"
            clips.append(Clip(path=path, text=answer, voice=ANSWER_VOICE))
        return clips

    def record(self) -> Record:
        turns = tuple(
            Turn(
                role="assistant" if index % 2 else "user",
                text=clip.text,
                speech=clip.path,
                voice=str(clip.voice),
            )
            for index, clip in enumerate(self.clips())
        )
        return Record(
            id=self.id, turns=turns, split=self.split, provenance=provenance(self.dialogue)
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What lies in the folder afterwards; made_clips of the clips are new."""

    records: dict[str, int]  # by split
    hours: dict[str, float]  # by split of the questions, and "answers"
    clips: int
    made_clips: int


def build_nano(
    folder: str | Path,
    dialogues: Iterable[Dialogue],
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
    clips = list({clip.path: clip for item in spoken for clip in item.clips()}.values())
    waiting = [clip for clip in clips if not (folder / clip.path).exists()]
    make_clips(folder, waiting, workers=workers or os.cpu_count() or 1, make_tts=make_tts)
    write_manifest(folder / "text.jsonl", [text_record(dialogue) for dialogue in dialogues])
    write_manifest(folder / "records.jsonl", [item.record() for item in spoken])
    return summary(folder, spoken, clips, made=len(waiting))


def plan(dialogues: Sequence[Dialogue], *, questions: int, seed: int) -> list[Spoken]:
    """Who asks what: rounds over the training dialogues until `questions` turns are spoken."""
    spoken: list[Spoken] = []
    voices: dict[str, list[Voice]] = {}

    def add(dialogue: Dialogue, split: str, voice: Voice | None = None) -> None:
        used = voices.setdefault(dialogue.id, [])
        take = "unseen" if voice == HELD_OUT_VOICE else len(used)
        item_id = f"{file_name(dialogue)}.{take}"
        if voice is None:
            rng = np.random.default_rng([seed, *hashlib.sha256(item_id.encode()).digest()])
            voice = random_training_voice(rng)
            while voice in used:
                voice = random_training_voice(rng)
        used.append(voice)
        spoken.append(Spoken(id=item_id, dialogue=dialogue, voice=voice, split=split))

    train = [dialogue for dialogue in dialogues if dialogue.split == "train"]
    order = np.random.default_rng([seed, 1])
    turns = 0
    while train and turns < questions:
        for index in order.permutation(len(train)):
            if turns < questions:
                add(train[index], "train")
                turns += len(train[index].turns)
    for dialogue in dialogues:
        if dialogue.split == "validation":
            for _ in range(VALIDATION_VOICES):
                add(dialogue, "validation")
        elif dialogue.split == "test":
            add(dialogue, "test_seen")
            add(dialogue, "test_unseen", HELD_OUT_VOICE)
    return spoken


def make_clips(
    folder: Path, clips: Sequence[Clip], *, workers: int, make_tts: Callable[[], TextToSpeech]
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

    def make(clip: Clip) -> None:
        write_wav(folder / clip.path, engines.tts.speak(clip.text, clip.voice))

    pool = ThreadPoolExecutor(workers, initializer=start)
    try:
        for _ in tqdm(pool.map(make, clips), total=len(clips), unit="clip", desc="speaking"):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
        for tts in started:
            tts.close()


def write_wav(path: Path, waveform: np.ndarray) -> None:
    """[samples] float32 at 16 kHz -> int16 wav, written aside and renamed."""
    aside = path.with_name(path.name + ".partial")
    samples = np.round(np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
    soundfile.write(aside, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    os.replace(aside, path)


def check(dialogues: Sequence[Dialogue], *, questions: int, workers: int | None) -> None:
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
    dialogues: Sequence[Dialogue],
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
    aside = path.with_name("state.json.partial")
    aside.write_text(json.dumps(state, indent=2) + "\n")
    os.replace(aside, path)


def file_name(dialogue: Dialogue) -> str:
    """Its id, such as "capitals/france/2", as the start of a file name."""
    return dialogue.id.replace("/", "-")


def provenance(dialogue: Dialogue) -> dict[str, str]:
    return {
        "skill": dialogue.skill,
        "dialogue": dialogue.id,
        "source": SOURCE,
        "licence": LICENCE,
    }


def text_record(dialogue: Dialogue) -> Record:
    turns = [
        turn
        for question, answer in dialogue.turns
        for turn in (Turn(role="user", text=question), Turn(role="assistant", text=answer))
    ]
    return Record(
        id=dialogue.id,
        turns=tuple(turns),
        split=dialogue.split,
        provenance=provenance(dialogue) | {"licence": "made by this project"},
    )


def summary(folder: Path, spoken: Sequence[Spoken], clips: Sequence[Clip], *, made: int) -> Summary:
    records: dict[str, int] = {}
    for item in spoken:
        records[item.split] = records.get(item.split, 0) + 1
    hours: dict[str, float] = {}
    for clip in clips:
        parts = Path(clip.path).parts  # audio, questions, split, file or audio, answers, file
        name = parts[2] if parts[1] == "questions" else "answers"
        samples = ((folder / clip.path).stat().st_size - WAV_HEADER_BYTES) / BYTES_PER_SAMPLE
        hours[name] = hours.get(name, 0.0) + samples / SAMPLE_RATE / 3600
    return Summary(records=records, hours=hours, clips=len(clips), made_clips=made)
