"""An independent ear: what a judge is, and the one that needs no download, pocketsphinx.

With a bigram of the domain's own sentences it is trustworthy inside the domain (0 to 1 % of words
wrong on clear speech); its own model of any speech is good only for the difference to a teacher
voice on the same sentences.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from omni.metrics import normalise

log = logging.getLogger(__name__)
NORMALISER = "basic"
DISCOUNT = 0.1  # absolute discounting (Ney et al. 1994); little, for the domain is closed
LANGUAGE_WEIGHT = 10.0  # of the bigram against the sound; pocketsphinx's own is 6.5
BEGIN, END = "<s>", "</s>"


def bigram_arpa(sentences: Sequence[str]) -> str:
    """A bigram language model of normalised sentences, in ARPA's text format (log10).

    What is taken from each seen bigram backs off to the unigrams, so any order of the words can
    be recognised. Raises ValueError if there is no word.
    """
    unigrams: Counter[str] = Counter()
    bigrams: Counter[tuple[str, str]] = Counter()
    for sentence in sentences:
        words = [BEGIN, *sentence.split(), END]
        unigrams.update(words[1:])
        bigrams.update(pairwise(words))
    if len(unigrams) < 2:
        raise ValueError("sentences: hold no word; a language model needs at least one")
    total = sum(unigrams.values())
    probability = {word: count / total for word, count in unigrams.items()}
    histories: Counter[str] = Counter()
    followers: dict[str, list[str]] = {}
    for (left, right), count in bigrams.items():
        histories[left] += count
        followers.setdefault(left, []).append(right)
    lines = [
        "\\data\\",
        f"ngram 1={len(unigrams) + 1}",
        f"ngram 2={len(bigrams)}",
        "",
        "\\1-grams:",
    ]
    for word in [BEGIN, *sorted(unigrams)]:
        own = math.log10(probability[word]) if word in probability else -99.0
        backoff = 0.0
        if word in followers:
            freed = DISCOUNT * len(followers[word]) / histories[word]
            unseen = 1.0 - sum(probability[right] for right in followers[word])
            backoff = math.log10(freed / unseen) if unseen > 1e-9 else -99.0
        lines.append(f"{own:.5f} {word} {backoff:.5f}")
    lines += ["", "\\2-grams:"]
    for (left, right), count in sorted(bigrams.items()):
        lines.append(f"{math.log10((count - DISCOUNT) / histories[left]):.5f} {left} {right}")
    return "\n".join([*lines, "", "\\end\\", ""])


class Recogniser(Protocol):
    """An ear that knows nothing of the model: it writes down what a waveform says."""

    def hear(self, waveform: np.ndarray) -> str:
        """[samples] float at 16 kHz -> words, "" for none; errors are counted as the ear's
        normaliser leaves them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ear:
    """How a judge is made, and how its words are compared.

    make: from the domain's sentences, or from None for any speech. name, normaliser: the report
    names them. told: whether it hears better for knowing the domain's sentences; then it listens
    twice, as "domain" and as "full". weights: a digest of them, where it has any.
    """

    make: Callable[[Sequence[str] | None], Recogniser]
    name: str
    normaliser: str = NORMALISER
    told: bool = False
    weights: str = ""

    def listens(self, *, last: bool) -> tuple[str, ...]:
        """As what it listens to one schedule; last: to the last one, or to the teacher.

        What is not told the domain is slower and, of pocketsphinx, good only for a difference.
        """
        if not self.told:
            return ("full",)
        return ("domain", "full") if last else ("domain",)


class Judge:
    """pocketsphinx. sentences: of the domain; None takes its own model of any speech."""

    def __init__(self, sentences: Sequence[str] | None) -> None:
        from pocketsphinx import Decoder

        if sentences is None:
            self._decoder = Decoder(loglevel="FATAL")
            return
        normalised = [normalise(sentence, NORMALISER) for sentence in sentences]
        words = {word for sentence in normalised for word in sentence.split()}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "domain.lm").write_text(bigram_arpa(normalised))
            # The whole dictionary beside a small language model takes a minute to load.
            (folder / "domain.dict").write_text("".join(_pronunciations(words)))
            self._decoder = Decoder(
                lm=str(folder / "domain.lm"),
                dict=str(folder / "domain.dict"),
                lw=LANGUAGE_WEIGHT,
                loglevel="FATAL",
            )

    def hear(self, waveform: np.ndarray) -> str:
        """[samples] float at 16 kHz -> the words heard, "" for none."""
        silence = np.zeros(1600, np.float32)  # 0.1 s: the decoder clips words at a hard edge
        padded = np.concatenate([silence, np.asarray(waveform, np.float32), silence])
        pcm = (np.clip(padded, -1.0, 1.0) * 32767).astype(np.int16)
        self._decoder.start_utt()
        self._decoder.process_raw(pcm.tobytes(), full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return normalise(heard.hypstr, NORMALISER) if heard is not None else ""


POCKETSPHINX = Ear(make=Judge, name="pocketsphinx", told=True)


def _pronunciations(words: set[str]) -> list[str]:
    """pocketsphinx's dictionary lines of these words; those that it does not know are named."""
    from pocketsphinx import get_model_path

    found, known = [], set()
    with Path(get_model_path("en-us/cmudict-en-us.dict")).open(encoding="utf-8") as lines:
        for line in lines:
            word = line.split(maxsplit=1)[0].partition("(")[0]  # "read(2)" is another way to say it
            if word in words:
                found.append(line if line.endswith("\n") else line + "\n")
                known.add(word)
    if missing := sorted(words - known):
        log.warning("the judge cannot hear %s: not in its dictionary", ", ".join(missing))
    return found
