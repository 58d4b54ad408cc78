"""Model and processor of a checkpoint, ready to answer; the nano where none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omni.files import SHIPPED
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor

NANO = SHIPPED["nano"]


def load(
    checkpoint: str | Path | None = None, **kwargs: Any
) -> tuple[OmniForConditionalGeneration, OmniProcessor]:
    """A model ready to answer and its processor; None is the embedded nano.

    checkpoint: a folder, a hub id, or the name of one that comes with the package: nano, mini.
    kwargs: those of `OmniForConditionalGeneration.from_pretrained`.
    """
    source = NANO if checkpoint is None else checkpoint
    model = OmniForConditionalGeneration.from_pretrained(source, **kwargs)
    return model, OmniProcessor.from_pretrained(source)
