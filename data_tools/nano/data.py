"""The nano's data set: its questions, and what it is to refuse, spoken by the engines of `speak`.

DIR/records.jsonl  spoken dialogues: train, validation, and the tests:
                   test_known: known templates with known facts, only the two together are new;
                   test_wide: free wordings, their whole templates are held out;
                   both in voices of training, and again by each held-out voice (test_wide_rms ...);
                   test_unknown: questions that nobody could answer, in voices of training;
                   test_refuse: sounds and other languages
DIR/text.jsonl     all dialogues as text, for the base language model
DIR/reading.jsonl  the voice of the answers reads training questions aloud: its units and vocoder
                   need more words than the answers have
DIR/audio/         questions/<split>/<record>.<turn>.wav, answers and reading/<hash of the text>.wav
DIR/state.json     what was asked for; a folder with other contents is refused

Every clip is written aside and renamed, and what it holds depends only on (seed, record id): a run
that was killed goes on where it stopped and ends with the same files. The .jsonl come last.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_tools.manifest import write_manifest
from data_tools.nano.asks import SOURCE, nano_asks
from data_tools.nano.plan import plan, reading, texts
from data_tools.speech import (
    PlannedClip,
    TextToSpeech,
    claim,
    engine_versions,
    fill,
    hours_of,
    reading_record,
)
from data_tools.talk import (
    OWN_LICENCE,
    Ask,
    SpokenAsk,
    asking_voices,
    contents,
    engines,
    text_record,
)

QUESTIONS = 24_000  # spoken question turns for training, about 14 h
FORMAT_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What lies in the folder afterwards; made_clips of the clips are new."""

    records: dict[str, int]  # by split
    hours: dict[str, float]  # by split of the questions, "answers", and "reading"
    clips: int
    made_clips: int


def build_nano(
    folder: str | Path,
    asks: Mapping[str, Sequence[Ask]] | None = None,
    *,
    questions: int = QUESTIONS,
    seed: int = 0,
    workers: int | None = None,
    make_tts: Callable[[], TextToSpeech] = engines,
) -> Summary:
    """Speaks the data set into `folder`, or goes on with what an earlier run began there.

    asks: by kind; None takes all of the nano's. questions: spoken question turns for training;
        every phrasing comes before any is repeated, and it is repeated by another voice.
    workers: engines running side by side; all cores unless given.
    make_tts: called once per worker.
    Raises ValueError if the folder was begun with other options.
    """
    folder = Path(folder)
    asks = nano_asks(seed=seed) if asks is None else asks
    check(asks, questions=questions, workers=workers)
    spoken = plan(asks, asking_voices(), questions=questions, seed=seed)
    state = {
        "format_version": FORMAT_VERSION,
        "questions": questions,
        "seed": seed,
        "contents": contents(spoken),
        "engines": engine_versions(make_tts),
    }
    claim(folder, state)
    read = reading(spoken)
    asked_and_answered = [clip for item in spoken for clip in item.clips()]
    clips = list({clip.path: clip for clip in [*asked_and_answered, *read]}.values())
    made = fill(folder, clips, workers=workers, make_tts=make_tts)
    told = (text_record(ask) for ask in texts(asks, spoken))
    write_manifest(folder / "text.jsonl", [record for record in told if record is not None])
    source = {"source": SOURCE, "licence": OWN_LICENCE}
    write_manifest(folder / "reading.jsonl", [reading_record(clip, source) for clip in read])
    write_manifest(folder / "records.jsonl", [item.record() for item in spoken])
    return summary(folder, spoken, clips, made=made)


def check(asks: Mapping[str, Sequence[Ask]], *, questions: int, workers: int | None) -> None:
    """Raises ValueError for counts below 1, an unknown split and an id that two asks have."""
    if questions < 1:
        raise ValueError(f"questions={questions}: must be at least 1; the default is {QUESTIONS}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers}: must be at least 1; leave it out to use all cores")
    everything = [ask for pool in asks.values() for ask in pool]
    if not any(ask.split == "train" for ask in everything):
        raise ValueError("asks: none is in the split 'train'; give at least one")
    names: set[str] = set()
    for ask in everything:
        if ask.split not in ("train", "validation", "test"):
            raise ValueError(
                f"ask {ask.id!r} has split {ask.split!r}: must be train, validation or test; "
                "rename it"
            )
        if ask.id in names:
            raise ValueError(f"ask {ask.id!r}: its id must be unique; rename it")
        names.add(ask.id)


def summary(
    folder: Path, spoken: Sequence[SpokenAsk], clips: Sequence[PlannedClip], *, made: int
) -> Summary:
    """Records per split, hours per kind of clip, and how many clips this run has made."""
    records = dict(Counter(item.split for item in spoken))
    return Summary(
        records=records, hours=hours_of(folder, clips), clips=len(clips), made_clips=made
    )
