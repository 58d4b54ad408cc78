"""Who asks what in the nano's data set: its clips and records, before anything is spoken."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from data_tools.manifest import Record, RecordTurn
from data_tools.speech import HELD_OUT_VOICE, PlannedClip, Voice, answered, random_training_voice

VALIDATION_VOICES = 2  # seen voices for each held-out phrasing of validation
SOURCE = "nano_domain"
LICENCE = "made by this project; speech by flite, festival and espeak-ng"


class AnyDialogue(Protocol):
    """What `data_tools.nano.domain.dialogues()` gives; split is train, validation or test."""

    @property
    def id(self) -> str:
        """Its name, unique in the set."""
        ...

    @property
    def skill(self) -> str:
        """What it teaches; goes into the provenance."""
        ...

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """(question, answer) pairs, in order."""
        ...

    @property
    def split(self) -> str:
        """train, validation or test."""
        ...


@dataclass(frozen=True, kw_only=True)
class SpokenDialogue:
    """A dialogue whose questions one voice asks."""

    id: str
    dialogue: AnyDialogue
    voice: Voice
    split: str

    def clips(self) -> list[PlannedClip]:
        """A clip for each turn, questions in `voice` and answers in the one answer voice."""
        clips = []
        for index, (question, answer) in enumerate(self.dialogue.turns):
            path = f"audio/questions/{self.split}/{self.id}.{index}.wav"
            clips.append(PlannedClip(path=path, text=question, voice=self.voice))
            clips.append(answered("answers", answer))
        return clips

    def record(self) -> Record:
        """The manifest record of these clips."""
        turns = tuple(
            RecordTurn(
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


def plan(dialogues: Sequence[AnyDialogue], *, questions: int, seed: int) -> list[SpokenDialogue]:
    """Who asks what: rounds over the training dialogues until `questions` turns are spoken."""
    spoken: list[SpokenDialogue] = []
    voices: dict[str, list[Voice]] = {}

    def add(dialogue: AnyDialogue, split: str, voice: Voice | None = None) -> None:
        used = voices.setdefault(dialogue.id, [])
        take = "unseen" if voice == HELD_OUT_VOICE else len(used)
        item_id = f"{file_name(dialogue)}.{take}"
        if voice is None:
            rng = np.random.default_rng([seed, *hashlib.sha256(item_id.encode()).digest()])
            voice = random_training_voice(rng)
            while voice in used:
                voice = random_training_voice(rng)
        used.append(voice)
        spoken.append(SpokenDialogue(id=item_id, dialogue=dialogue, voice=voice, split=split))

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


def reading(dialogues: Sequence[AnyDialogue]) -> list[PlannedClip]:
    """Every question of training once, in the voice of the answers."""
    clips = [
        answered("reading", question)
        for dialogue in dialogues
        if dialogue.split == "train"
        for question, _ in dialogue.turns
    ]
    return list({clip.path: clip for clip in clips}.values())


def text_record(dialogue: AnyDialogue) -> Record:
    """The dialogue as a record without speech."""
    turns = [
        turn
        for question, answer in dialogue.turns
        for turn in (
            RecordTurn(role="user", text=question),
            RecordTurn(role="assistant", text=answer),
        )
    ]
    return Record(
        id=dialogue.id,
        turns=tuple(turns),
        split=dialogue.split,
        provenance=provenance(dialogue) | {"licence": "made by this project"},
    )


def provenance(dialogue: AnyDialogue) -> dict[str, str]:
    """Where a record comes from: skill, dialogue, source and licence."""
    return {
        "skill": dialogue.skill,
        "dialogue": dialogue.id,
        "source": SOURCE,
        "licence": LICENCE,
    }


def file_name(dialogue: AnyDialogue) -> str:
    """Its id, such as "capitals/france/2", as the start of a file name."""
    return dialogue.id.replace("/", "-")
