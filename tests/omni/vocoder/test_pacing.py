"""The schedule `auto` on engines that are idle, busy or too slow, by a clock of our own."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from omni.vocoder.chunking import AUTO, ChunkSchedule, Growing
from omni.vocoder.pace import Pace

SOUNDS = 0.025  # seconds, a unit
UNITS = 800
LARGER = [Growing((10, size)) for size in (10, 15, 20, 30, 40, 60, 80)]


@dataclass(frozen=True)
class Played:
    """sizes: of the chunks. underruns: when the listener ran dry, and for how long (seconds)."""

    sizes: list[int]
    underruns: list[tuple[float, float]]


def play(
    schedule: ChunkSchedule, per_unit: Callable[[float], float], per_chunk: float = 0.0
) -> Played:
    """A reply on an engine that takes so long for a unit, at that time, and for a chunk."""
    now, waiting, pace = 0.0, 0, Pace()
    sizes: list[int] = []
    underruns: list[tuple[float, float]] = []
    for _ in range(UNITS):
        now += per_unit(now)
        pace, waiting = pace.came(1, now), waiting + 1
        size = schedule.size(len(sizes), pace.progress(waiting, now, unit_seconds=SOUNDS))
        assert size is not None
        if waiting >= size:
            began, now = now, now + per_chunk
            if sizes and now > pace.ends:
                underruns.append((now, now - pace.ends))
            pace, waiting = pace.sent(size, size * SOUNDS, now, began=began), waiting - size
            sizes.append(size)
    return Played(sizes, underruns)


def steadily(per_unit: float) -> Callable[[float], float]:
    return lambda now: per_unit


def test_chunks_are_the_larger_the_slower_the_engine() -> None:
    largest = [max(play(AUTO, steadily(share * SOUNDS)).sizes) for share in (0.02, 0.1, 0.3, 0.6)]
    assert largest == sorted(set(largest))
    assert largest[0] < 15 and largest[-1] == 80


def test_chunks_grow_when_others_come_and_shrink_when_they_have_gone() -> None:
    busy_from, busy_until = 0.3, 3.0
    played = play(AUTO, lambda now: SOUNDS * (0.5 if busy_from < now < busy_until else 0.05))
    assert max(played.sizes[:5]) < 20
    assert max(played.sizes) > 60
    assert played.sizes[-1] < 20
    assert played.underruns == []


@pytest.mark.parametrize("per_chunk", [0.0, 0.01, 0.05, 0.1, 0.15, 0.2])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6, 0.8, 0.95])
def test_nobody_runs_dry_whom_larger_chunks_would_have_kept_fed(
    share: float, per_chunk: float
) -> None:
    def gaps(schedule: ChunkSchedule) -> int:
        return len(play(schedule, steadily(share * SOUNDS), per_chunk).underruns)

    fewest = min(map(gaps, LARGER))
    # Where no size keeps up from the first chunk on, the right one is found after a few.
    assert gaps(AUTO) <= (fewest + 3 if fewest else 0)


def test_an_engine_that_only_large_chunks_let_keep_up_catches_up() -> None:
    slow, call = steadily(0.5 * SOUNDS), 0.2
    small = play(Growing((10, 10)), slow, call)
    paced = play(AUTO, slow, call)
    assert len(small.underruns) > 50
    assert [at for at, _ in paced.underruns if at > 2.0] == []


def test_a_load_that_comes_suddenly_meets_a_listener_who_has_much_left() -> None:
    idle = play(AUTO, steadily(0.05 * SOUNDS))
    burdened = play(AUTO, lambda now: SOUNDS * (0.05 if now < 0.5 else 0.9))
    assert idle.underruns == burdened.underruns == []
    assert max(burdened.sizes) == 80
