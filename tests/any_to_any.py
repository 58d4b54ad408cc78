"""transformers' any-to-any pipeline, which asks for librosa in the older releases of our range."""

import importlib.util
import inspect
from typing import Any

import pytest
from transformers import AnyToAnyPipeline, pipeline

REFUSED = (
    "librosa" in inspect.getsource(AnyToAnyPipeline.__init__)
    and importlib.util.find_spec("librosa") is None
)


def any_to_any(**settings: Any) -> Any:
    """The pipeline, or None where this release of transformers refuses any model that hears."""
    if REFUSED:
        with pytest.raises(ImportError, match="librosa"):
            pipeline("any-to-any", **settings)
        return None
    return pipeline("any-to-any", **settings)
