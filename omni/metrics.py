"""How far a reply is from what it should be: words, characters, units, seams.

A word error rate means nothing without its normaliser: the same system scores 10.4 % raw and
6.0 % after Whisper's. So the normaliser is an argument without a default, and its name stands in
the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from omni.audio import SAMPLE_RATE
from omni.files import UserError, need

SEAM_MS = 5.0  # what counts as near a chunk border, on each side


@dataclass(frozen=True, kw_only=True)
class ErrorRate:
    """errors = substitutions + deletions + insertions; length: words, characters or units."""

    errors: int
    length: int
    normaliser: str

    @property
    def rate(self) -> float:
        """Errors per reference item, 0.1 for 10 %; above 1 where much was inserted."""
        return self.errors / self.length


@dataclass(frozen=True, kw_only=True)
class SeamError:
    """RMS of (streamed - whole) over the RMS of the whole reply, 0 for the same sound.

    overall: over all samples; at_borders: within 5 ms of the chunk borders, 0 without any.
    """

    overall: float
    at_borders: float


def _basic(text: str) -> str:
    """Lower case, no punctuation (apostrophes inside words stay), single spaces."""
    kept = re.sub(r"[^\w\s']|_|(?<!\w)'|'(?!\w)", " ", text.lower())
    return " ".join(kept.split())


@cache
def _whisper_en() -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    # Its table of British spellings ships with Whisper's tokenizer files, not with transformers.
    return EnglishTextNormalizer({})


# Each entry makes its normaliser, so that only the one asked for is imported.
NORMALISERS: dict[str, Callable[[], Callable[[str], str]]] = {
    "basic": lambda: _basic,
    "whisper-en": _whisper_en,
    "none": lambda: str,
}


def normalise(text: str, normaliser: str) -> str:
    """Text as the named normaliser leaves it. Raises UserError for an unknown name."""
    if normaliser not in NORMALISERS:
        raise UserError(f"normaliser={normaliser!r}: must be one of {', '.join(NORMALISERS)}")
    return " ".join(NORMALISERS[normaliser]()(text).split())


def word_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, normaliser: str
) -> ErrorRate:
    """Word errors of all sentences over all reference words.

    Raises UserError if the lists differ in length or the references hold no word.
    """
    return _error_rate(
        [normalise(text, normaliser).split() for text in references],
        [normalise(text, normaliser).split() for text in hypotheses],
        normaliser,
    )


def character_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, normaliser: str
) -> ErrorRate:
    """Character errors, spaces included, of all sentences over all reference characters."""
    return _error_rate(
        [_codes(normalise(text, normaliser)) for text in references],
        [_codes(normalise(text, normaliser)) for text in hypotheses],
        normaliser,
    )


def _codes(text: str) -> list[int]:
    """Characters as numbers, for a space is one of them."""
    return [ord(character) for character in text]


def unit_error_rate(
    references: Sequence[Sequence[int]], hypotheses: Sequence[Sequence[int]]
) -> ErrorRate:
    """Errors between merged units of all replies over all reference units."""
    return _error_rate(references, hypotheses, "none")


def _error_rate(
    references: Sequence[Sequence[str | int]],
    hypotheses: Sequence[Sequence[str | int]],
    normaliser: str,
) -> ErrorRate:
    need("jiwer", "eval", "an error rate")
    import jiwer

    if len(references) != len(hypotheses):
        raise UserError(
            f"{len(references)} references, {len(hypotheses)} hypotheses: give one for each"
        )
    length = sum(map(len, references))
    if length == 0:
        raise UserError("references: all empty after normalising; an error rate needs at least one")
    pairs = list(zip(references, hypotheses, strict=True))
    # jiwer refuses empty references; all that was said against one is an insertion.
    errors = sum(len(said) for true, said in pairs if not true)
    compared = jiwer.process_words(
        [" ".join(map(str, true)) for true, _ in pairs if true],
        [" ".join(map(str, said)) for true, said in pairs if true],
    )
    errors += compared.substitutions + compared.deletions + compared.insertions
    return ErrorRate(errors=errors, length=length, normaliser=normaliser)


def seam_error(whole: np.ndarray, chunks: Sequence[np.ndarray]) -> SeamError:
    """What speaking in chunks did to a reply.

    whole: [W] float, the reply vocoded at once; chunks: the same units as they were streamed.
    Where the lengths differ, the shorter one is silent at its end, so that lost or added sound
    counts. Raises UserError if the whole reply is silent.
    """
    streamed = np.concatenate([np.zeros(0, np.float32), *chunks])
    size = max(len(whole), len(streamed))
    reference = np.pad(np.asarray(whole, np.float64), (0, size - len(whole)))
    difference = np.pad(np.asarray(streamed, np.float64), (0, size - len(streamed))) - reference
    level = _rms(reference)
    if level == 0:
        raise UserError(
            f"whole reply: {len(whole)} samples, all zero; no error relative to it exists"
        )
    near = np.zeros(size, bool)
    reach = round(SEAM_MS * SAMPLE_RATE / 1000)
    for border in np.cumsum([len(chunk) for chunk in chunks])[:-1]:
        near[max(0, border - reach) : border + reach] = True
    at_borders = _rms(difference[near]) if near.any() else 0.0
    return SeamError(overall=_rms(difference) / level, at_borders=at_borders / level)


def _rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(signal)))) if signal.size else 0.0
