"""Which sound is said when: pocketsphinx's forced alignment of an answer with its text."""

from __future__ import annotations

import numpy as np

from omni.audio import FRAME_RATE
from omni.files import need
from omni.metrics import normalise

SILENCE = "SIL"  # pocketsphinx's names are the CMU dictionary's: "AH", "ZH", and this
ALIGNED_PER_SECOND = 100  # pocketsphinx's frames


class PhoneAligner:
    """English alone, as its dictionary; it needs no training and knows nothing of any encoder."""

    def __init__(self) -> None:
        need("pocketsphinx", "eval", "forced alignment of phones")
        from pocketsphinx import Decoder

        self._decoder = Decoder(lm=None, loglevel="FATAL")

    def align(self, waveform: np.ndarray, text: str) -> list[str] | None:
        """[samples] at 16 kHz -> the phone in the middle of each 20 ms frame.

        None where the text can't be aligned: a word that the dictionary lacks, or other words said.
        """
        pcm = (np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16).tobytes()
        try:
            self._decoder.set_align_text(normalise(text, "basic"))
            self._hear(pcm)  # the words, and then the phones in them
            self._decoder.set_alignment()
            self._hear(pcm)
        except RuntimeError:
            return None
        aligned = [phone.name for word in self._decoder.get_alignment() for phone in word
                   for _ in range(phone.duration)]  # fmt: skip
        step = ALIGNED_PER_SECOND // FRAME_RATE
        return aligned[step // 2 :: step]

    def _hear(self, pcm: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
