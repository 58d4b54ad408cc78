"""Who hears what is said: recognisers that know the domain or do not, and a rating of the sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from omni.audio import SAMPLE_RATE
from train.evaluation.judges import Recogniser
from train.evaluation.quality import load_dnsmos

FULL_EARS = ("domain", "full")  # a recogniser told the domain's sentences, and one for any speech


class Listeners:
    """make: a recogniser from the domain's sentences, or from None for any speech."""

    def __init__(
        self, make: Callable[[Sequence[str] | None], Recogniser], sentences: Sequence[str]
    ) -> None:
        self._make = make
        self._sentences = sentences
        self._recognisers: dict[str, Recogniser] = {}
        self._dnsmos = load_dnsmos()

    def hear(self, waveform: np.ndarray, ears: Sequence[str]) -> dict[str, Any]:
        """[samples] float at 16 kHz -> the words that each ear hears, and the seconds.

        With FULL_EARS also DNSMOS, where it is installed.
        """
        heard: dict[str, Any] = {ear: self._recogniser(ear).hear(waveform) for ear in ears}
        heard["seconds"] = len(waveform) / SAMPLE_RATE
        if ears == FULL_EARS and self._dnsmos is not None and len(waveform):
            heard["dnsmos"] = self._dnsmos(waveform)
        return heard

    def _recogniser(self, ear: str) -> Recogniser:
        if ear not in self._recognisers:  # made when first needed: they take seconds
            self._recognisers[ear] = self._make(self._sentences if ear == "domain" else None)
        return self._recognisers[ear]
