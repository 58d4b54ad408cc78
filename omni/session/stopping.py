"""Texts at which a reply ends, as its caller names them."""

from __future__ import annotations

from collections.abc import Sequence


def before_stop(text: str, stops: Sequence[str]) -> str | None:
    """What stands before the first of these that the text holds; None where it holds none."""
    places = [place for place in map(text.find, stops) if place >= 0]
    return text[: min(places)] if places else None


def certain(text: str, stops: Sequence[str]) -> str:
    """The text without what may be the beginning of one of these at its end."""
    longest = max(map(len, stops), default=1) - 1
    for kept in range(max(0, len(text) - longest), len(text)):
        if any(stop.startswith(text[kept:]) for stop in stops):
            return text[:kept]
    return text
