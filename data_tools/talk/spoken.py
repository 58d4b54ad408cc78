"""An ask in a voice: its clips and its record, before anything is spoken."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from data_tools.manifest import WRITTEN_TURNS, Record, RecordTurn
from data_tools.speech import ANSWER_VOICE, PlannedClip, Voice, answered
from data_tools.talk.asks import Ask

SPEECH = "speech by flite, festival, espeak-ng and what Piper's voices say"


@dataclass(frozen=True, kw_only=True)
class SpokenAsk:
    """An ask in one voice, in a split of the data set."""

    id: str
    ask: Ask
    voice: Voice
    split: str
    effect: str = ""

    def question_clips(self) -> Iterator[PlannedClip]:
        """A clip for each turn that is spoken, none for those in writing."""
        for number, (said, _) in enumerate(self.ask.turns):
            if number >= self.ask.written:
                spoken = number - self.ask.written
                path = f"audio/questions/{self.split}/{self.id}.{spoken}.wav"
                yield PlannedClip(path=path, text=said, voice=self.voice, effect=self.effect)

    def clips(self) -> Iterator[PlannedClip]:
        """All clips of the record; answers that are equal share one."""
        yield from self.question_clips()
        for _, answer in self.ask.turns:
            yield answered("answers", answer)

    def record(self, **more: str) -> Record:
        """The manifest record of these clips; more: of its provenance."""
        clips = iter(self.question_clips())
        turns: list[RecordTurn] = []
        for number, (said, answer) in enumerate(self.ask.turns):
            clip = next(clips) if number >= self.ask.written else None
            voice = None if clip is None else str(clip.voice)
            speech = answered("answers", answer).path
            turns += [
                RecordTurn(role="user", text=said, speech=clip and clip.path, voice=voice),
                RecordTurn(role="assistant", text=answer, speech=speech, voice=str(ANSWER_VOICE)),
            ]
        about = {"effect": self.effect} if self.effect else {}
        if self.ask.written:
            about[WRITTEN_TURNS] = str(self.ask.written)
        return Record(
            id=self.id,
            turns=tuple(turns),
            language=self.ask.language,
            split=self.split,
            provenance=provenance(self.ask) | about | more,
        )


def provenance(ask: Ask) -> dict[str, str]:
    """Where a record comes from: kind, skill, template, dialogue, source and licence."""
    return {
        "kind": ask.kind,
        "skill": ask.skill,
        "template": ask.template,
        "dialogue": ask.id,
        "source": ask.source,
        "licence": f"{ask.licence}; {SPEECH}",
    }


def text_record(ask: Ask) -> Record | None:
    """As text alone; None for an ask without words, or without an answer."""
    turns: list[RecordTurn] = []
    for said, answer in ask.turns:
        if not said or not answer:
            return None  # a sound has no words
        turns += [RecordTurn(role="user", text=said), RecordTurn(role="assistant", text=answer)]
    return Record(
        id=ask.id,
        turns=tuple(turns),
        language=ask.language,
        split=ask.split,
        provenance=provenance(ask) | {"licence": ask.licence},
    )


def contents(spoken: Iterable[SpokenAsk]) -> str:
    """A digest of all that is said, and of who says it."""
    digest = hashlib.sha256()
    for item in spoken:
        line = [item.id, item.split, str(item.voice), item.ask.turns, item.ask.template]
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()[:16]
