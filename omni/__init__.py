"""omni: ears and a voice for any LLaMA-style LLM.

The parts stand in pipeline order in audio, speech_encoder, speech_adapter, language_model,
unit_decoder and vocoder; model joins them, session runs a conversation.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from omni import auto

if TYPE_CHECKING:
    from omni.config import OmniConfig as OmniConfig
    from omni.loading import NANO as NANO
    from omni.loading import load as load
    from omni.model import OmniForConditionalGeneration as OmniForConditionalGeneration
    from omni.processor import OmniProcessor as OmniProcessor
    from omni.session import AudioDelta as AudioDelta
    from omni.session import Done as Done
    from omni.session import SessionConfig as SessionConfig
    from omni.session import SpeechSession as SpeechSession
    from omni.session import TextDelta as TextDelta
    from omni.session import Turn as Turn
    from omni.vocoder import parse_schedule as parse_schedule

__version__ = "0.2.0"

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
# The names in _HOMES are written once; pyright reads them from the imports above.
__all__ = [*_HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    # On first use: importing torch takes seconds, and `omni --help` must not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'omni' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


auto.announce()  # AutoConfig, AutoModel, AutoProcessor ... of transformers, whenever they come
