"""What the mini is made with: its bases and its data, as options of the command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni.checkpoint import MINI as BASES
from omni.files import UserError, hub_name, local_path
from train.parts import Setting

QUESTIONS = 30_000  # spoken turns for training
SEED = 1
DEFAULTS: dict[str, Any] = {
    "seed": SEED,
    "speech_encoder": BASES[0],
    "language_model": BASES[1],
    "questions": QUESTIONS,
}


@dataclass(frozen=True, kw_only=True)
class MiniSetting(Setting):
    """speech_encoder, language_model: hub ids or folders. questions, texts, prose, piper: options
    of `omni-data mini`. source: where bases are fetched from, as `omni fetch-bases` says it."""

    speech_encoder: str
    language_model: str
    questions: int
    texts: str | None = None
    prose: str | None = None
    piper: str | None = None
    source: str | None = None

    @property
    def bases(self) -> dict[str, str]:
        """Part of the model -> its base."""
        return {"speech_encoder": self.speech_encoder, "language_model": self.language_model}

    def made_of(self) -> dict[str, Any]:
        """What counts: all but where the bases come from, which their digests tell."""
        data = {"questions": self.questions, "texts": self.texts, "piper": self.piper}
        if self.prose is not None:  # runs that were begun before there was any have no such line
            data["prose"] = self.prose
        return {"seed": self.seed, "bases": self.bases, "data": data}

    def omni_data(self, *arguments: str) -> None:
        """Run that command of `omni-data`; `train` knows none of its code.

        Raises UserError if it fails; its own words are above.
        """
        run_omni_data(arguments)


def run_omni_data(arguments: Sequence[str]) -> None:
    """As the user would. Raises UserError if the command fails."""
    done = subprocess.run([sys.executable, "-m", "data_tools.cli", *arguments], check=False)
    if done.returncode:
        raise UserError(
            f"omni-data {' '.join(arguments)}: failed; its own words are above, run it to see more"
        )


def chosen(folder: Path, before: dict[str, Any], **options: Any) -> MiniSetting:
    """The setting of a run. before: what DIR's run was made of; it and, at the first run, the
    defaults stand in for options that are None."""
    known = {"seed": before["seed"], **before["bases"], **before["data"]} if before else {}
    given = {name: value for name, value in options.items() if value is not None}
    for name in ("texts", "prose", "piper"):
        if name in given:
            given[name] = str(Path(given[name]).resolve())
    for name in ("speech_encoder", "language_model"):
        if name in given:
            given[name] = _named(str(given[name]))
    return MiniSetting(folder=folder, **(DEFAULTS | known | given))


def _named(base: str) -> str:
    """A folder by its absolute path, for parts may run elsewhere; a hub id in full."""
    path = local_path(base)
    return str(path.resolve()) if path.exists() else hub_name(base)
