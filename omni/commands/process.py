"""How a command's process behaves, set before torch and transformers are imported.

Light on purpose: every command imports it first.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from contextlib import contextmanager


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
