"""Which sequences are stepped together, by their lengths."""

from __future__ import annotations

from collections.abc import Sequence


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Places of the sequences that go together, every place once, the shortest first.

    In a batch each is padded to the longest. The rule: padding takes no more than what it pads, so
    one long conversation makes no other pay for it, in time or in memory.
    """
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        group = [*(groups[-1] if groups else []), place]
        padded = len(group) * lengths[place]
        if groups and padded <= 2 * sum(lengths[one] for one in group):
            groups[-1] = group
        else:
            groups.append([place])
    return groups
