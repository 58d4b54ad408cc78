"""Who hears what is said: recognisers that know the domain or do not, and a rating of the sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from omni.audio import SAMPLE_RATE
from train.evaluation.judges import Ear, Recogniser
from train.evaluation.quality import load_dnsmos


class Listeners:
    """ear: how the judge is made. sentences: of the domain, for one that can be told them."""

    def __init__(self, ear: Ear, sentences: Sequence[str]) -> None:
        self.ear = ear
        self._sentences = sentences
        self._recognisers: dict[str, Recogniser] = {}
        self._dnsmos = load_dnsmos()

    def hear(self, waveform: np.ndarray, *, last: bool = True) -> dict[str, Any]:
        """[samples] float at 16 kHz -> the words that each ear hears, and the seconds.

        last: of the last schedule, or the teacher's: also for ears that do not know the domain, and
        with DNSMOS, where it is installed.
        """
        heard = self.transcribe(waveform, self.ear.listens(last=last))
        heard["seconds"] = len(waveform) / SAMPLE_RATE
        if last and self._dnsmos is not None and len(waveform):
            heard["dnsmos"] = self._dnsmos(waveform)
        return heard

    def transcribe(self, waveform: np.ndarray, ears: Sequence[str] = ("full",)) -> dict[str, Any]:
        """[samples] float at 16 kHz -> the words that each of these ears hears."""
        return {ear: self._recogniser(ear).hear(waveform) for ear in ears}

    def _recogniser(self, ear: str) -> Recogniser:
        if ear not in self._recognisers:  # made when first needed: they take seconds
            told = self._sentences if ear == "domain" else None
            self._recognisers[ear] = self.ear.make(told)
        return self._recognisers[ear]
