"""What the nano is asked in the end: known phrasings, free wordings, and what it is to refuse.

Three evaluations with journals of their own. Each is asked in writing too, as its first split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_tools.manifest import Manifest
from train.evaluation import Evaluation, EvaluationConfig

KNOWN, WIDE, REFUSE = "known", "wide", "refuse"  # the reports by name
UNKNOWN, NOT_ENGLISH = "test_unknown", "test_refuse"


def splits_of(manifest: Manifest, kind: str) -> tuple[str, ...]:
    """test_KIND in voices of training, then test_KIND_VOICE by each that was never trained on."""
    first = f"test_{kind}"
    known = {record.split for record in manifest.records}
    return first, *sorted(split for split in known if split.startswith(f"{first}_"))


def measure(
    checkpoint: Path, manifest: Manifest, output: Path, *, device: str = "auto"
) -> dict[str, Any]:
    """The reports by name; a stopped run goes on where it was.

    What is said is judged and timed at length on known phrasings; elsewhere a few answers show that
    they sound alike.
    """
    few = {"chunks": ("10",), "spoken": 20, "timed": 5}
    configs = {
        KNOWN: EvaluationConfig(splits=splits_of(manifest, KNOWN)[:2], device=device),
        WIDE: EvaluationConfig(splits=splits_of(manifest, WIDE), device=device, **few),
        REFUSE: EvaluationConfig(splits=(UNKNOWN, NOT_ENGLISH), device=device, **few),
    }
    return {
        name: Evaluation(checkpoint, manifest, config, output / name).run()
        for name, config in configs.items()
    }
