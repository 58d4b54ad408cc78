"""What the nano is asked in the end: known phrasings, free wordings, and what it is to refuse.

Three evaluations with journals of their own. Each is asked in writing too, as its first split.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from data_tools.manifest import Manifest
from train.evaluation import Evaluation, EvaluationConfig

KNOWN, WIDE, REFUSE = "known", "wide", "refuse"  # the reports by name
SEEN_AND_UNSEEN = ("test_known", "test_known_rms")
FREE = "test_wide"
UNKNOWN, NOT_ENGLISH = "test_unknown", "test_refuse"


def measure(
    checkpoint: Path, manifest: Manifest, output: Path, *, device: str = "auto"
) -> dict[str, Any]:
    """The reports by name; a stopped run goes on where it was.

    What is said is judged and timed at length on known phrasings; elsewhere a few answers show that
    they sound alike. Free wordings are asked by every voice that the manifest holds.
    """
    splits = {record.split for record in manifest.records}
    voices = sorted(split for split in splits if split.startswith(f"{FREE}_"))
    whole = EvaluationConfig(splits=SEEN_AND_UNSEEN, device=device)
    few = replace(whole, chunks=("10",), spoken=20, timed=5)
    configs = {
        KNOWN: whole,
        WIDE: replace(few, splits=(FREE, *voices)),
        REFUSE: replace(few, splits=(UNKNOWN, NOT_ENGLISH)),
    }
    return {
        name: Evaluation(checkpoint, manifest, config, output / name).run()
        for name, config in configs.items()
    }
