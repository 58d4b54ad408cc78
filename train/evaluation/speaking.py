"""Answers as a user hears them: vocoded in every schedule, and heard by the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_tools.manifest import Manifest
from omni.audio import load_audio
from omni.vocoder import StreamingVocoder, Vocoder, Whole, parse_schedule
from train.data import Example
from train.evaluation.answers import stream
from train.evaluation.journal import Journal
from train.evaluation.listeners import Listeners


@dataclass(frozen=True)
class Speaking:
    """What speaks, who listens, and where it is kept. chunks: the schedules."""

    vocoder: Vocoder
    listeners: Listeners
    journal: Journal
    manifest: Manifest
    chunks: Sequence[str]

    def speak(self, split: str, chosen: Sequence[Example]) -> None:
        """Vocode what was generated, per schedule, and let the judge hear it and the teacher.

        What is slow and good only for a difference hears the last schedule alone.
        """
        for chunks in self.chunks:
            speaker = StreamingVocoder(self.vocoder, parse_schedule(chunks))
            last = chunks == self.chunks[-1]

            def speak(
                batch: Sequence[Example], vocoder: StreamingVocoder = speaker, last: bool = last
            ) -> list[dict[str, Any]]:
                units = [self.journal[f"answer {split} {item.id}"]["units"] for item in batch]
                return [self.listeners.hear(stream(vocoder, row), last=last) for row in units]

            self.journal.fill(f"spoken {chunks} {split}", chosen, speak)
        teacher = {item.answer.text: item for item in chosen if item.answer.speech is not None}
        self.journal.fill(
            "teacher",
            list(teacher.values()),
            lambda batch: [
                self.listeners.hear(load_audio(self.manifest.audio_path(item.answer)))
                for item in batch
            ],
            key=lambda item: item.answer.text,
        )
        whole = StreamingVocoder(self.vocoder, Whole())
        self.journal.fill(
            "vocoder",
            [item for item in teacher.values() if item.answer.units],
            lambda batch: [
                self.listeners.hear(stream(whole, item.answer.units or ())) for item in batch
            ],
            key=lambda item: item.answer.text,
        )
