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
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_tools.manifest import write_manifest
from data_tools.nano.plan import (
    LICENCE,
    SOURCE,
    AnyDialogue,
    SpokenDialogue,
    file_name,
    plan,
    reading,
    text_record,
)
from data_tools.speech import (
    InstalledEngines,
    PlannedClip,
    TextToSpeech,
    claim,
    engine_versions,
    fill,
    hours_of,
    reading_record,
)

QUESTIONS = 15_000  # spoken question turns for training, about 9 h
FORMAT_VERSION = 2


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
    contents = json.dumps([[d.id, d.skill, d.turns, d.split] for d in dialogues])
    state = {
        "format_version": FORMAT_VERSION,
        "dialogues": hashlib.sha256(contents.encode()).hexdigest()[:16],
        "questions": questions,
        "seed": seed,
        "engines": engine_versions(make_tts),
    }
    claim(folder, state)
    spoken = plan(dialogues, questions=questions, seed=seed)
    read = reading(dialogues)
    asked_and_answered = [clip for item in spoken for clip in item.clips()]
    clips = list({clip.path: clip for clip in [*asked_and_answered, *read]}.values())
    made = fill(folder, clips, workers=workers, make_tts=make_tts)
    write_manifest(folder / "text.jsonl", [text_record(dialogue) for dialogue in dialogues])
    source = {"source": SOURCE, "licence": LICENCE}
    write_manifest(folder / "reading.jsonl", [reading_record(clip, source) for clip in read])
    write_manifest(folder / "records.jsonl", [item.record() for item in spoken])
    return summary(folder, spoken, clips, made=made)


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


def summary(
    folder: Path, spoken: Sequence[SpokenDialogue], clips: Sequence[PlannedClip], *, made: int
) -> Summary:
    """Records per split, hours per kind of clip, and how many clips this run has made."""
    records = dict(Counter(item.split for item in spoken))
    return Summary(
        records=records, hours=hours_of(folder, clips), clips=len(clips), made_clips=made
    )
