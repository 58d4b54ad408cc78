"""A model that is made part by part: what its parts are, what each needs, and how they are made.

Layout of DIR: a folder per part, each complete when its marker is there, and logs/.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from omni.files import UserError, held, need, read_json, write_json
from train.loop import FILE, LoopConfig
from train.parts.folder import MARKER, complete
from train.parts.schedule import LOGS, StatusLine, run_parts

DATA = ("text.jsonl", "records.jsonl", "reading.jsonl")  # of data/

SPELLED = {"source": "from"}  # options whose name is a word of Python's


@dataclass(frozen=True, kw_only=True)
class Setting:
    """DIR, and what a part's loop takes beside its recipe."""

    folder: Path
    seed: int
    device: str = "auto"
    dtype: str = "auto"

    def loop(self, loop: LoopConfig) -> LoopConfig:
        """A recipe's loop with this run's seed, device and type."""
        return replace(loop, seed=self.seed, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class Given:
    """What parts need and none of them makes. file: that shows it; command: that makes it, with
    `{folder}` for DIR."""

    file: str
    command: str


S = TypeVar("S", bound=Setting)
S_co = TypeVar("S_co", bound=Setting, covariant=True)


class Begin(Protocol[S_co]):
    """Takes DIR for these options, or sees that it was made with them."""

    def __call__(self, folder: Path, *, restart: bool = False, **options: Any) -> S_co:
        """options: of the command; None takes what DIR was begun with, else the default."""
        ...


@dataclass(frozen=True, kw_only=True)
class MadeInParts(Generic[S]):
    """A model by the name of its command.

    parts: name -> what makes it, in the folder of that name, and returns what it came to.
    needs: part -> those that must be there before it, in the order in which parts begin.
    given: what else is needed. packages: that some part imports, with the extra that brings each.
    """

    name: str
    parts: Mapping[str, Callable[[S], Mapping[str, Any]]]
    needs: Mapping[str, tuple[str, ...]]
    begin: Begin[S]
    given: Mapping[str, Given] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)

    def build(self, folder: Path, part: str, **options: Any) -> None:
        """Make one part, going on where it was stopped.

        Raises UserError if what it needs is not there, if another process makes it, or DIR was made
        of something else.
        """
        at = self.begin(folder, **options)
        self._require(folder, part)
        for made in (LOGS, part):
            (folder / made).mkdir(parents=True, exist_ok=True)
        with held(folder / LOGS / part):  # a part outlives what began it, if that is killed
            write_json(folder / part / MARKER, self.parts[part](at))

    def build_all(
        self, folder: Path, *, jobs: int | None = None, threads: int | None = None, **options: Any
    ) -> None:
        """Make every part that is not complete, `jobs` at a time, each in its own process.

        jobs: by default two, or one where a GPU would be shared or there is but one core. threads:
        of each part; by default those that begin together share the cores.
        Raises UserError if what they need is not there or a part fails.
        """
        for package, extra in self.packages.items():
            need(package, extra, f"training the {self.name}")
        cores = os.cpu_count() or 1
        jobs = jobs or (1 if torch.cuda.is_available() else min(2, cores))
        self.begin(folder, **options)

        def command(part: str, sharing: int) -> list[str]:
            count = threads or max(1, cores // sharing)
            return self._command(folder, part, {"threads": count, **options})

        run_parts(
            folder,
            {
                part: [need for need in needed if need in self.parts]
                for part, needed in self.needs.items()
            },
            complete=lambda part: complete(folder, part),
            command=command,
            jobs=jobs,
            show=StatusLine(),
        )

    def made_from(self, part: str) -> list[str]:
        """The part, and all that need it or what was made from it, in their order."""
        found = [part]
        for name, needed in self.needs.items():  # which are there before it
            if not set(found).isdisjoint(needed):
                found.append(name)
        return found

    def require_given(self, folder: Path) -> None:
        """Raise UserError, with the command that makes it, if something is not there."""
        for name in self.given:
            part = next(part for part, needed in self.needs.items() if name in needed)
            self._require(folder, part)

    def _require(self, folder: Path, part: str) -> None:
        for needed in self.needs[part]:
            given = self.given.get(needed)
            if given is not None and not (folder / given.file).is_file():
                command = given.command.format(folder=folder)
            elif given is None and not complete(folder, needed):
                command = f"omni-train {self.name} {folder} --part {needed}"
            else:
                continue
            raise UserError(f"{folder}/{needed}: not complete, and {part} needs it; run {command}")

    def _command(self, folder: Path, part: str, options: Mapping[str, Any]) -> list[str]:
        call = [sys.executable, "-m", "train.cli", self.name, str(folder), "--part", part]
        for name, value in options.items():
            if value is not None:
                call += [f"--{SPELLED.get(name, name).replace('_', '-')}", str(value)]
        return call


def begun_with(folder: Path, *, restart: bool) -> dict[str, Any]:
    """What DIR's run was made of; nothing where none was begun, or it begins anew."""
    known = folder / FILE
    return read_json(known)["made_of"] if known.is_file() and not restart else {}
