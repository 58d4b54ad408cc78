"""Augmented questions as files, for those who train elsewhere; training here augments on the fly.

What is drawn depends only on (seed, epoch, record, turn), so any number of workers write the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.manifest import Record
from data_tools.speech.augmentation import AugmentConfig, augment, augment_rng
from data_tools.speech.clips import make_once
from data_tools.steps import LeftOut, digest
from omni.audio import load_audio
from omni.files import file_digest

FOLDER = "audio/augmented"


@dataclass(frozen=True, kw_only=True)
class AugmentStep:
    """Other splits than `splits` stay as they are: tests are heard clean, or through their own set.

    epoch: another number draws anew.
    """

    config: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0
    epoch: int = 0
    splits: tuple[str, ...] = ("train",)
    name: str = "augment"
    batch_size: int = 1
    workers: int | None = None

    @property
    def device(self) -> str:
        """The CPU: augmentation is numpy's."""
        return "cpu"

    def settings(self) -> dict[str, Any]:
        """All fields that what is heard depends on."""
        return {
            "config": asdict(self.config),
            "seed": self.seed,
            "epoch": self.epoch,
            "splits": list(self.splits),
        }

    def size(self, record: Record, root: Path) -> float:
        """All alike."""
        return 0.0

    def open(self, root: Path) -> AugmentWork:
        """A worker that reads and writes below `root`."""
        return AugmentWork(self, root)


class AugmentWork:
    """Augments one record at a time; holds nothing open."""

    def __init__(self, step: AugmentStep, root: Path) -> None:
        self.step = step
        self.root = root

    def __call__(self, records: Sequence[Record]) -> list[Record | LeftOut]:
        """The records with augmented questions; none is left out."""
        return [self.augmented(record) for record in records]

    def close(self) -> None:
        """Holds nothing."""
        pass

    def augmented(self, record: Record) -> Record:
        """The record with an augmented file for each spoken question, made unless it is there."""
        step = self.step
        if record.split not in step.splits:
            return record
        turns = list(record.turns)
        for number, turn in enumerate(record.turns):
            if turn.role != "user" or turn.speech is None:
                continue
            content = file_digest(self.root / turn.speech)
            name = digest(step.settings(), record.id, number, turn.speech, content)
            path = f"{FOLDER}/{name[:2]}/{name}.wav"
            make_once(self.root / path, partial(self.heard, record.id, number, turn.speech))
            turns[number] = replace(turn, speech=path)
        provenance = {**record.provenance, "augmented": f"seed {step.seed}, epoch {step.epoch}"}
        return replace(record, turns=tuple(turns), provenance=provenance)

    def heard(self, record: str, turn: int, speech: str) -> np.ndarray:
        """[samples] at 16 kHz: what is made of the recording of this turn."""
        step = self.step
        rng = augment_rng(step.seed, step.epoch, int(digest(record, turn, length=15), 16))
        return augment(load_audio(self.root / speech), rng, step.config)
