"""How a command's process behaves, set before torch and transformers are imported.

Light on purpose: every command imports it first.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

# What transformers imports wherever it is installed, for pictures and for losses of other models.
FOR_OTHERS = ("scipy", "PIL", "torchvision")


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the user said otherwise.

    By default they spin. Where another program keeps the cores busy, each wait then burns the
    time that the awaited thread needs, and an answer of 0.2 s does not come within a minute.
    OpenMP reads this when torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@contextmanager
def without_garbage_collection() -> Generator[None]:
    """For imports and loading: they make many objects and no garbage, yet it would be sought.

    What was made is left out of later searches, too.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


@contextmanager
def without_packages_for_others() -> Generator[None]:
    """For a command's first import of transformers: it finds none of `FOR_OTHERS`, which asking
    needs as little as a machine without them has them.

    transformers remembers what it found, so this is for processes that only answer. Where it was
    imported before, nothing is hidden.
    """
    loaded = "transformers" in sys.modules
    hidden = [name for name in FOR_OTHERS if not loaded and name not in sys.modules]
    # None there is Python's own mark of a module that can't be imported.
    sys.modules.update(dict.fromkeys(hidden))  # pyright: ignore[reportArgumentType, reportCallIssue]  # its type has no None
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
