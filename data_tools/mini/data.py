"""The mini's data set: sentences of every kind, spoken by many voices.

DIR/records.jsonl  spoken dialogues: train, validation, and the tests: test_seen (held-out asks,
                   voices of training), test_telephone, test_room and test_noise (the same
                   recordings through these), test_VOICE (the same, by voices never trained on),
                   test_refuse (sounds and languages that are not to be answered)
DIR/text.jsonl     as text all of this that has an answer, and all of the domain
DIR/reading.jsonl  the voice of the answers reads training questions aloud
DIR/audio/         questions/<split>/<record>.<turn>.wav, answers and reading/<hash of the text>.wav
DIR/open.jsonl     the open questions that were read, so that a later run needs no network
DIR/prose.jsonl    the sentences of prose that were read, if any were given
DIR/answers.json   what a language model answered, if one was asked
DIR/state.json     what was asked for; a folder with other contents is refused

A run that was killed goes on where it stopped. A language model can be asked later, and answers can
be spoken later: they are added to what lies there.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from data_tools.manifest import Record, jsonl_rows, write_manifest
from data_tools.mini import prose as prose_texts
from data_tools.mini import texts as open_texts
from data_tools.mini.answers import write_answers, written
from data_tools.mini.asks import KINDS
from data_tools.mini.plan import Written, as_learnt, plan, pools, record_of
from data_tools.mini.prose import ProseSentence, prose_in
from data_tools.mini.texts import OpenQuestion, questions_in, questions_of_hub
from data_tools.speech import (
    PlannedClip,
    TextToSpeech,
    answered,
    claim,
    engine_versions,
    fill,
    hours_of,
    reading_record,
)
from data_tools.talk import Ask, SpokenAsk, asking_voices, contents, engines, text_record
from data_tools.writers import WriterConfig
from omni.files import UserError, write_text

QUESTIONS = 30_000  # spoken turns for training, about 20 h
READING = 4_000  # training questions that the voice of the answers reads
FORMAT_VERSION = 1
OPEN, PROSE = "open.jsonl", "prose.jsonl"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What lies in the folder afterwards; made_clips of the clips are new.

    records: split -> kind -> how many. unanswered: that wait for a language model, or that it
    could not answer, and that are to be repeated until it does.
    """

    records: dict[str, dict[str, int]]
    hours: dict[str, float]
    clips: int
    made_clips: int
    unanswered: int


def build_mini(
    folder: str | Path,
    *,
    questions: int = QUESTIONS,
    kinds: Sequence[str] | None = None,
    called: str = "Mini",
    texts: Path | None = None,
    prose: Path | None = None,
    piper: Path | None = None,
    writer: WriterConfig | None = None,
    speak_answers: bool = True,
    seed: int = 0,
    workers: int | None = None,
    make_tts: Callable[[], TextToSpeech] | None = None,
) -> Summary:
    """Speaks the data set into `folder`, or goes on with what an earlier run began there.

    questions: spoken turns for training. kinds: of KINDS; `domain` and `refuse` are what the nano
    can learn; None takes all that there is something for. called: the name that the model answers
    to. texts: files of the open sets; None takes them from the hub. prose: a file or a folder of
    prose; None takes what an earlier run read, if it read any. piper: a folder of neural voices.
    writer: who answers what has no answer; None leaves it open for a later run. speak_answers:
    False leaves all but the questions for a later run: stage 1 learns from the answers' texts.
    Raises ValueError if the folder was begun with other options.
    """
    folder = Path(folder)
    check(questions, KINDS if kinds is None else kinds)
    sentences = prose_sentences(folder, prose) if kinds is None or "prose" in kinds else []
    kinds = given_kinds(kinds, sentences)
    make_tts = make_tts or partial(engines, piper)
    speakers = asking_voices(piper)
    read = open_questions(folder, texts) if "open" in kinds else []
    asks = pools(read, sentences, kinds, called=called, seed=seed)
    spoken = plan(asks, speakers, questions=questions, seed=seed)
    state = {
        "format_version": FORMAT_VERSION,
        "questions": questions,
        "kinds": kinds,
        "seed": seed,
        "contents": contents(spoken),
        "engines": engine_versions(make_tts),
    }
    claim(folder, state)
    keep(folder / OPEN, open_texts.as_rows(read))
    keep(folder / PROSE, prose_texts.as_rows(sentences))
    # What is asked first: it is there before a language model has begun.
    asked = {clip.path: clip for item in spoken for clip in item.question_clips()}
    made = fill(folder, asked.values(), workers=workers, make_tts=make_tts)
    own = list({item.ask.id: item.ask for item in spoken}.values())
    known = written(folder) if writer is None else write_answers(folder, own, writer)
    records = [record_of(item, known) for item in spoken]
    said = {clip.path: clip for item in spoken for clip in as_learnt(item, known).clips()}
    heard = [ask.turns[0][0] for ask in own if ask.split == "train" and ask.language == "en"]
    read_aloud = [answered("reading", text) for text in dict.fromkeys(heard) if text][:READING]
    clips = {**asked, **said, **{clip.path: clip for clip in read_aloud}}
    if speak_answers or all((folder / path).exists() for path in clips):  # by an earlier run
        made += fill(folder, clips.values(), workers=workers, make_tts=make_tts)
    else:
        clips, read_aloud = asked, []
        records = [with_unspoken_answers(record) for record in records]
    learnt = list({ask.id: ask for ask in (*own, *asks.get("domain", ()))}.values())
    write(folder, records, learnt, read_aloud, known)
    return summary(folder, spoken, list(clips.values()), known, made=made)


def check(questions: int, kinds: Sequence[str]) -> None:
    """Raises ValueError for a count below 1 and for kinds that are none of KINDS."""
    if questions < 1:
        raise ValueError(f"questions={questions}: must be at least 1; the default is {QUESTIONS}")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(f"kinds={list(kinds)}: must be some of {', '.join(KINDS)}")


def given_kinds(kinds: Sequence[str] | None, sentences: Sequence[ProseSentence]) -> list[str]:
    """Those that were asked for, or all that there is something for.

    Raises UserError if prose was asked for by name, and there is none.
    """
    if not sentences and "prose" in (kinds or ()):
        raise UserError("kinds: prose has no sentences; give a file or a folder of it with --prose")
    return (
        [kind for kind in KINDS if kind != "prose" or sentences] if kinds is None else list(kinds)
    )


def prose_sentences(folder: Path, prose: Path | None) -> list[ProseSentence]:
    """From files, or from an earlier run; none if it read none."""
    if prose is not None:
        return prose_in(prose)
    if (folder / PROSE).is_file():
        return prose_texts.from_rows(row for _, row in jsonl_rows(folder / PROSE))
    return []


def keep(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows, if there are any, as the lines of a file."""
    if lines := [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]:
        write_text(path, "".join(lines))


def open_questions(folder: Path, texts: Path | None) -> list[OpenQuestion]:
    """From files, from an earlier run, or from the hub."""
    if texts is not None:
        return questions_in(texts)
    if (folder / OPEN).is_file():
        return open_texts.from_rows(row for _, row in jsonl_rows(folder / OPEN))
    try:
        return questions_of_hub()
    except UserError as error:
        raise UserError(
            f"{error}; or give a folder of these files with --texts, or other kinds with --kinds"
        ) from None


def write(
    folder: Path,
    records: Sequence[Record],
    asks: Sequence[Ask],
    read: Sequence[PlannedClip],
    known: Written,
) -> None:
    """Write the three manifests; read: clips that only read a text aloud."""
    texts = [record for ask in asks if (record := text_record(told(ask, known))) is not None]
    write_manifest(folder / "text.jsonl", texts)
    source = {"source": "mini", "licence": "as of the texts in records.jsonl"}
    write_manifest(folder / "reading.jsonl", [reading_record(clip, source) for clip in read])
    write_manifest(folder / "records.jsonl", records)


def with_unspoken_answers(record: Record) -> Record:
    """The record as a later run finds it that will speak the answers."""
    turns = (
        replace(turn, speech=None, voice=None) if turn.role == "assistant" else turn
        for turn in record.turns
    )
    return replace(record, turns=tuple(turns))


def told(ask: Ask, known: Written) -> Ask:
    """With what a language model has answered."""
    turns = tuple((said, answer or known.get(said, "")) for said, answer in ask.turns)
    return replace(ask, name=ask.id, turns=turns)


def summary(
    folder: Path,
    spoken: Sequence[SpokenAsk],
    clips: Sequence[PlannedClip],
    known: Written,
    *,
    made: int,
) -> Summary:
    """Records per split and kind, hours, clips, and how many asks nobody has answered."""
    records: dict[str, Counter[str]] = {}
    for item in spoken:
        records.setdefault(item.split, Counter())[as_learnt(item, known).ask.kind] += 1
    return Summary(
        records={split: dict(counts) for split, counts in records.items()},
        hours=hours_of(folder, clips),
        clips=len(clips),
        made_clips=made,
        unanswered=sum(
            item.ask.kind != "repeat" and as_learnt(item, known).ask.kind == "repeat"
            for item in spoken
        ),
    )
