"""When audio comes: how many merged units each chunk of a reply holds (Omega in the paper)."""

from __future__ import annotations

from dataclasses import dataclass

from omni.vocoder.pace import Progress

START = Progress()  # nothing is known yet
RESERVE = 2.0  # times as long as expected that the next chunk's making may take


@dataclass(frozen=True)
class ChunkSchedule:
    """The sizes of a reply's chunks. A schedule changes when audio comes, never what is said."""

    def size(self, index: int, progress: Progress = START) -> int | None:
        """Merged units in chunk number `index` (from 0); None: all that are left.

        Asked again whenever units come; the chunk is made when as many are there.
        """
        raise NotImplementedError


def _check_sizes(sizes: tuple[int, ...]) -> None:
    for size in sizes:
        if size < 1:
            raise ValueError(
                f"chunk size {size}: must be at least 1 unit; 'all' waits for the whole reply"
            )


@dataclass(frozen=True)
class Whole(ChunkSchedule):
    """One chunk: the vocoder waits for the whole reply."""

    def size(self, index: int, progress: Progress = START) -> int | None:
        """None for every chunk: it ends with the reply."""
        return None

    def __str__(self) -> str:
        return "all"


@dataclass(frozen=True)
class Fixed(ChunkSchedule):
    """Every chunk holds the same number of units, as in the paper's Table 4."""

    units: int

    def __post_init__(self) -> None:
        _check_sizes((self.units,))

    def size(self, index: int, progress: Progress = START) -> int | None:
        """`units` for every chunk."""
        return self.units

    def __str__(self) -> str:
        return str(self.units)


@dataclass(frozen=True)
class Growing(ChunkSchedule):
    """A small first chunk for an early start, then larger ones; the last size repeats.

    Ten units take far less time to make than to play, and a growing chunk spends that slack on
    fewer calls of the vocoder.
    """

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) < 2:
            raise ValueError(
                f"chunk sizes {self.sizes}: a growing schedule has at least two; "
                "give one number for chunks of equal size"
            )
        _check_sizes(self.sizes)

    def size(self, index: int, progress: Progress = START) -> int | None:
        """The size at that place, the last one from there on."""
        return self.sizes[min(index, len(self.sizes) - 1)]

    def __str__(self) -> str:
        return ",".join(str(size) for size in self.sizes)


@dataclass(frozen=True)
class Paced(ChunkSchedule):
    """A small first chunk; each later one as large as what the listener has left to play allows.

    The first one is larger where the engine is busy, as its first units have shown: it holds
    `first_units` up to a real-time factor of 1 / RESERVE, and half of `most_units` from twice that
    on. What is made meanwhile for others keeps the second chunk waiting for a time that grows with
    their number, and not with the first chunk.

    A later chunk is made when as many units wait as could be made in 1 / RESERVE of what was left
    to play when they began, at the speed of this reply of late: the rest of the time is there for
    making that takes longer. No chunk is smaller than `first_units` (but the last) or larger than
    `most_units`.

    The less of its time an engine needs, the smaller chunks stay: how far a reply is ahead of its
    listener does not depend on them, and what is interrupted was made for nothing. One that is busy
    is spared calls of the vocoder: from a real-time factor of 1 / RESERVE on, chunks do not shrink,
    and where it is only these calls that make it slower than playing, they grow.
    """

    first_units: int = 10
    most_units: int = 80

    def __post_init__(self) -> None:
        _check_sizes((self.first_units,))
        if self.most_units < self.first_units:
            raise ValueError(
                f"most_units={self.most_units}: must be at least first_units={self.first_units}"
            )

    def size(self, index: int, progress: Progress = START) -> int | None:
        """By how busy the engine is, then by what is left to play."""
        if index == 0:
            return self._first(progress)
        if progress.seconds_per_unit is None:
            return self.most_units
        each, waiting = progress.seconds_per_unit, progress.waiting_units
        # What was left to play when the first of those that wait began to be made.
        left = progress.buffered_seconds + waiting * each
        covered = int(min(left / (RESERVE * each), self.most_units))
        least, wanted = self._bounds(progress)
        # Where more wait already than are due, there is no reason to leave any behind.
        return min(max(min(covered, wanted), least, waiting), self.most_units)

    def _first(self, progress: Progress) -> int:
        """The more the busier; units that came all at once show nothing of that yet."""
        busy = min(1.0, max(0.0, RESERVE * (progress.real_time_factor or 0.0) - 1))
        most = max(self.first_units, self.most_units // 2)
        return round(self.first_units + busy * (most - self.first_units))

    def _bounds(self, progress: Progress) -> tuple[int, int]:
        """The fewest and the most units that are good for an engine as busy as this."""
        factor = progress.real_time_factor
        if factor is None:
            return self.first_units, self.most_units
        busy = min(1.0, RESERVE * factor)
        wanted = round(self.first_units + busy * (self.most_units - self.first_units))
        # What was sent last is played while as much is made, where that takes less time.
        least = progress.last_units if busy == 1 else 0
        return max(self.first_units, least, self._keeping_up(progress, factor)), wanted

    def _keeping_up(self, progress: Progress, factor: float) -> int:
        """Units of a chunk over which the vocoder's call is spread thinly enough, where calls for
        smaller ones are what makes the engine too slow; 0 where it is not, or they are not."""
        each, call = progress.seconds_per_unit, progress.chunk_seconds
        if factor < 1 or each is None or call is None:
            return 0
        gained = each / factor - (each - call / progress.last_units)  # per unit, without the call
        return min(round(RESERVE * call / gained), self.most_units) if gained > 0 else 0

    def __str__(self) -> str:
        return "auto" if self == AUTO else f"auto:{self.first_units},{self.most_units}"


AUTO = Paced()
# Their keys in generation_config.json, where `omni-serve tune` writes its choice.
SETTING = "chunk_schedule"
RIGHT_CONTEXT_SETTING = "right_context_frames"


def parse_schedule(text: str) -> ChunkSchedule:
    """Read "10", "all", "auto", "auto:5,60" (first and most units) or "10,40,100"; `str` of a
    schedule reads back as itself.

    Raises ValueError for sizes below 1 and for anything else.
    """
    word = text.strip().lower()
    if word == "all":
        return Whole()
    if word == "auto":
        return AUTO
    numbers = word.removeprefix("auto:")
    try:
        sizes = tuple(int(part) for part in numbers.split(","))
    except ValueError:
        sizes = ()
    if numbers != word and len(sizes) == 2:
        return Paced(*sizes)
    if numbers != word or not sizes:
        raise ValueError(
            f"chunk schedule {text!r}: must be a number of units, numbers joined by commas, "
            "'auto', 'auto:' and the first and the most units, or 'all'; for example 10 or "
            "10,40,100 or auto:5,60"
        )
    return Fixed(sizes[0]) if len(sizes) == 1 else Growing(sizes)


def stored_schedule(generation_config: object) -> ChunkSchedule:
    """What `omni-serve tune` wrote into a checkpoint's generation settings; AUTO if nothing."""
    return parse_schedule(str(getattr(generation_config, SETTING, None) or AUTO))


def stored_right_context(generation_config: object) -> int | None:
    """The right context that the stored schedule was measured with; None: the vocoder's own."""
    return getattr(generation_config, RIGHT_CONTEXT_SETTING, None)
