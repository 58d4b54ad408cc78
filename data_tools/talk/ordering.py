"""In which order asks are taken, so that a small set has of everything at its share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from data_tools.talk.asks import Ask

SPLITS = ("train", "validation", "test")


def shuffled(asks: Iterable[Ask], seed: int) -> list[Ask]:
    """All of them, in an order drawn by the seed."""
    found = list(asks)
    return [found[place] for place in np.random.default_rng([seed, 1]).permutation(len(found))]


def skill_of(ask: Ask) -> str:
    """Its skill; a sound's kind too."""
    return f"{ask.skill}/{ask.template if ask.skill == 'sound' else ''}"


def in_turn(asks: Iterable[Ask], seed: int, *, group: Callable[[Ask], str] = skill_of) -> list[Ask]:
    """Group by group in turn, so that those with few sentences are not lost among the others."""
    groups: dict[str, list[Ask]] = {}
    for ask in shuffled(asks, seed):
        groups.setdefault(group(ask), []).append(ask)
    rows = [groups[name] for name in sorted(groups)]
    longest = max(map(len, rows), default=0)
    return [row[place] for place in range(longest) for row in rows if place < len(row)]


def mixed(parts: Mapping[str, Sequence[Ask]], shares: Mapping[str, float]) -> list[Ask]:
    """Split by split, the parts at their shares from the start; what one lacks the others give."""
    found: list[Ask] = []
    for split in SPLITS:
        rows = {name: [ask for ask in part if ask.split == split] for name, part in parts.items()}
        places = sorted(
            ((index + 0.5) / shares[name], name, index)
            for name, row in rows.items()
            for index in range(len(row))
        )
        found += [rows[name][index] for _, name, index in places]
    return found


def chosen(
    asks: Mapping[str, Sequence[Ask]], shares: Mapping[str, float], split: str, turns: int
) -> Iterator[Ask]:
    """By the shares of the kinds, until so many turns are spoken; training goes round again."""
    there = {kind: [ask for ask in pool if ask.split == split] for kind, pool in asks.items()}
    total = sum(shares[kind] for kind, pool in there.items() if pool)
    for kind, pool in there.items():
        left = round(turns * shares[kind] / total) if pool else 0
        for ask in cycle(pool) if split == "train" else pool:
            if left <= 0:
                break
            left -= ask.spoken
            yield ask
