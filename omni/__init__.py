"""omni: ears and a voice for any LLaMA-style LLM.

The parts stand in pipeline order in audio, speech_encoder, speech_adapter, language_model,
unit_decoder and vocoder; model joins them, session runs a conversation.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from omni import auto

if TYPE_CHECKING:
    from omni.config import OmniConfig
    from omni.loading import NANO, load
    from omni.model import OmniForConditionalGeneration
    from omni.processor import OmniProcessor
    from omni.session import AudioDelta, Done, SessionConfig, SpeechSession, TextDelta, Turn
    from omni.vocoder import parse_schedule

__version__ = "0.1.0"

_HOMES = {
    "NANO": "omni.loading",
    "AudioDelta": "omni.session.events",
    "Done": "omni.session.events",
    "OmniConfig": "omni.config",
    "OmniForConditionalGeneration": "omni.model",
    "OmniProcessor": "omni.processor",
    "SessionConfig": "omni.session.config",
    "SpeechSession": "omni.session.session",
    "TextDelta": "omni.session.events",
    "Turn": "omni.session.turn",
    "load": "omni.loading",
    "parse_schedule": "omni.vocoder.chunking",
}
__all__ = [*_HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    # On first use: importing torch takes seconds, and `omni --help` must not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'omni' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


auto.announce()  # AutoConfig, AutoModel, AutoProcessor ... of transformers, whenever they come
