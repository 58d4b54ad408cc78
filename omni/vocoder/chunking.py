"""When audio comes: how many merged units each chunk of a reply holds (Omega in the paper)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChunkSchedule:
    """The sizes of a reply's chunks. A schedule changes when audio comes, never what is said."""

    def size(self, index: int) -> int | None:
        """Merged units in chunk number `index` (from 0); None: all that are left."""
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

    def size(self, index: int) -> int | None:
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

    def size(self, index: int) -> int | None:
        """`units` for every chunk."""
        return self.units

    def __str__(self) -> str:
        return str(self.units)


@dataclass(frozen=True)
class Growing(ChunkSchedule):
    """A small first chunk for an early start, then larger ones; the last size repeats.

    Ten units take far less time to make than to play, and a growing chunk spends that slack on
    fewer, cheaper calls of the vocoder.
    """

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) < 2:
            raise ValueError(
                f"chunk sizes {self.sizes}: a growing schedule has at least two; "
                "give one number for chunks of equal size"
            )
        _check_sizes(self.sizes)

    def size(self, index: int) -> int | None:
        """The size at that place, the last one from there on."""
        return self.sizes[min(index, len(self.sizes) - 1)]

    def __str__(self) -> str:
        return ",".join(str(size) for size in self.sizes)


AUTO = Growing((10, 20, 40, 80))
# Their keys in generation_config.json, where `omni-serve tune` writes its choice.
SETTING = "chunk_schedule"
RIGHT_CONTEXT_SETTING = "right_context_frames"


def parse_schedule(text: str) -> ChunkSchedule:
    """Read "10", "all", "auto" or "10,40,100"; `str` of a schedule reads back as itself.

    Raises ValueError for sizes below 1 and for anything else.
    """
    word = text.strip().lower()
    if word == "all":
        return Whole()
    if word == "auto":
        return AUTO
    try:
        sizes = tuple(int(part) for part in word.split(","))
    except ValueError:
        raise ValueError(
            f"chunk schedule {text!r}: must be a number of units, numbers joined by commas, "
            "'auto' or 'all'; for example 10 or 10,40,100"
        ) from None
    return Fixed(sizes[0]) if len(sizes) == 1 else Growing(sizes)


def stored_schedule(generation_config: object) -> ChunkSchedule:
    """What `omni-serve tune` wrote into a checkpoint's generation settings; AUTO if nothing."""
    return parse_schedule(str(getattr(generation_config, SETTING, None) or AUTO))


def stored_right_context(generation_config: object) -> int | None:
    """The right context that the stored schedule was measured with; None: the vocoder's own."""
    return getattr(generation_config, RIGHT_CONTEXT_SETTING, None)
