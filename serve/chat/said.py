"""Answers in sound, by the ids under which clients speak of them later."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from serve.realtime import Said

LIVES_S = 3_600
MOST = 10_000  # answers at a time; the oldest goes


@dataclass(frozen=True)
class _Kept:
    said: Said
    expires_at: float


class SpokenAnswers:
    """What was said, not how it sounded. now: seconds since 1970."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def expiry(self) -> int:
        """Until when an answer that is kept now will be known, in seconds since 1970."""
        return int(self._now() + LIVES_S)

    def keep(self, answer_id: str, said: Said) -> None:
        """Remember an answer, and forget those that have expired."""
        now = self._now()
        self._kept[answer_id] = _Kept(said, now + LIVES_S)
        # All live equally long, so the oldest expires first.
        while len(self._kept) > MOST or next(iter(self._kept.values())).expires_at <= now:
            self._kept.popitem(last=False)

    def find(self, answer_id: str) -> Said | None:
        """The answer of that id, while it is known."""
        kept = self._kept.get(answer_id)
        return kept.said if kept is not None and kept.expires_at > self._now() else None
