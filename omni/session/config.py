"""SessionConfig: how a session answers, by the checkpoint's own settings or by the caller's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omni.model import OmniForConditionalGeneration
from omni.session.sampling import Sampling
from omni.vocoder import AUTO, CROSSFADE_MS, ChunkSchedule, stored_right_context, stored_schedule

MAX_NEW_TOKENS = 256  # where neither the caller nor the checkpoint says otherwise


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """How a session answers. Written out, it is these values alone; `from_model` begins with what
    the checkpoint's generation settings say.

    schedule: units per chunk of speech. right_context_frames: what the vocoder waits for after a
    chunk; None takes the vocoder's own recommendation. crossfade_ms: how long chunks fade into
    each other where they were cut short. speak=False: text and units, no sound. stop: texts at
    which a reply ends; its text ends before the first of them. Of one that takes several tokens
    all but the last may be heard.
    """

    schedule: ChunkSchedule = AUTO
    right_context_frames: int | None = None
    crossfade_ms: float = CROSSFADE_MS
    max_new_tokens: int = MAX_NEW_TOKENS
    sampling: Sampling = field(default_factory=Sampling)
    speak: bool = True
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens}: must be at least 1")
        # A text, where nobody checks types.
        if not isinstance(self.schedule, ChunkSchedule):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(
                f"schedule={self.schedule!r}: must be a ChunkSchedule; omni.parse_schedule makes "
                "one of a text"
            )
        if isinstance(self.stop, str):  # its letters would be taken for texts
            raise ValueError(
                f"stop={self.stop!r}: must be a tuple of texts; write ({self.stop!r},)"
            )
        if not all(self.stop):
            raise ValueError(f"stop={self.stop}: holds an empty text, at which all replies end")

    @classmethod
    def from_model(cls, model: OmniForConditionalGeneration, **overrides: Any) -> SessionConfig:
        """What the model's generation settings say, with overrides: other fields by name.

        Chunk schedule and right context are those that `omni-serve tune --write` chose; how to
        sample and max_new_tokens are those of transformers' `generate`.
        """
        settings = model.generation_config
        stored: dict[str, Any] = {
            "schedule": stored_schedule(settings),
            "right_context_frames": stored_right_context(settings),
            "max_new_tokens": getattr(settings, "max_new_tokens", None) or MAX_NEW_TOKENS,
            "sampling": Sampling.stored(settings),
        }
        return cls(**{**stored, **overrides})
