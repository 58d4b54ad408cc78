"""What a chunk may see of what follows it."""

from __future__ import annotations

from dataclasses import dataclass

from omni.audio import SAMPLE_RATE
from omni.vocoder.base import Vocoder

CROSSFADE_MS = 5.0  # the default of everything that streams
CROSSFADE_SAMPLES = round(CROSSFADE_MS * SAMPLE_RATE / 1000)


@dataclass(frozen=True, kw_only=True)
class StreamContext:
    """What a chunk may see of what follows it; of what came before, it sees all.

    right_context_frames: waited for before a chunk is made. Below the vocoder's own, the chunk is
        cut there and faded into the next one, and its end is made twice.
    first_right_context_frames: the same for the first chunks, one number each. That of the first
        counts in first-audio time; while it is played, there is time to wait for all.
    crossfade_samples: held back at the end of a chunk that was cut.
    """

    right_context_frames: int
    first_right_context_frames: tuple[int, ...] = ()
    crossfade_samples: int = CROSSFADE_SAMPLES

    def __post_init__(self) -> None:
        for name in ("right_context_frames", "crossfade_samples"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be 0 or more")
        if any(frames < 0 for frames in self.first_right_context_frames):
            raise ValueError(
                f"first_right_context_frames={self.first_right_context_frames}: each must be 0 or "
                "more"
            )

    @classmethod
    def recommended(cls, vocoder: Vocoder) -> StreamContext:
        """All of it, but for the first chunk no more than can be heard."""
        heard, full = vocoder.recommended_right_context_frames, vocoder.right_context_frames
        first = (heard,) if heard < full else ()
        return cls(right_context_frames=full, first_right_context_frames=first)

    @classmethod
    def exact(cls, vocoder: Vocoder) -> StreamContext:
        """All of it, always: joined chunks equal the whole."""
        return cls(right_context_frames=vocoder.right_context_frames)

    @classmethod
    def chosen(
        cls,
        vocoder: Vocoder,
        right_context_frames: int | None = None,
        crossfade_samples: int = CROSSFADE_SAMPLES,
    ) -> StreamContext:
        """So many frames for every chunk; None: as recommended."""
        context = cls.recommended(vocoder)
        if right_context_frames is not None:
            return cls(
                right_context_frames=right_context_frames, crossfade_samples=crossfade_samples
            )
        return cls(
            right_context_frames=context.right_context_frames,
            first_right_context_frames=context.first_right_context_frames,
            crossfade_samples=crossfade_samples,
        )

    def of_chunk(self, index: int) -> int:
        """The right context of chunk number `index`, from 0."""
        first = self.first_right_context_frames
        return first[index] if index < len(first) else self.right_context_frames
