"""The embedded default as one resumable recipe: bases, units, voice, two stages, checkpoint.

Layout of DIR: data/ (by `omni-data nano`), then one folder per part, each complete when its last
file is there, and logs/; checkpoint/ is what ships.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data_tools.manifest import ROLES, read_manifest
from data_tools.speech import AugmentConfig
from omni.checkpoint import load_speech_encoder
from omni.devices import choose_device
from omni.files import need, read_json, write_json, write_text
from omni.loading import load
from omni.units import UnitsConfig
from omni.vocoder import load_vocoder
from train.bases import train_encoder, train_lm, transcribed
from train.data import data_of, plain
from train.loop import FILE, LoopConfig, begin_run
from train.nano.card import model_card
from train.nano.folder import DATA, MARKER, complete, is_there, missing
from train.nano.measuring import measure
from train.nano.schedule import LOGS, StatusLine, run_parts
from train.stages import (
    nano_bases,
    nano_stage1,
    nano_stage2,
    nano_units,
    nano_vocoder,
    train_stage1,
    train_stage2,
)
from train.voice import answers, clips, make_units, train_vocoder

SEED = 1
# Asked for before the first part begins, and some are used in the last, hours later.
USED_BY_PARTS = {
    "tensorboard": "train",
    "sklearn": "train",
    "jiwer": "eval",
    "pocketsphinx": "eval",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """DIR, and what a part's loop takes beside its recipe."""

    folder: Path
    seed: int
    device: str
    dtype: str

    def loop(self, loop: LoopConfig) -> LoopConfig:
        """A recipe's loop with this run's seed, device and type."""
        return replace(loop, seed=self.seed, device=self.device, dtype=self.dtype)


def begin(folder: Path, *, seed: int | None = None, restart: bool = False) -> None:
    """Take DIR for this data, recipe and seed, or see that it was made of them.

    seed: of every part; None takes the one that DIR was begun with. restart: removes every part.
    Raises UserError if there is no data, or if DIR's parts were made of something else.
    """
    if not is_there(folder, "data"):
        raise missing(folder, "data", next(iter(NEEDS)))
    known = folder / FILE
    if seed is None:
        seed = _seed(folder) if known.is_file() and not restart else SEED
    data = {name: data_of(read_manifest(folder / "data" / name), heard=ROLES) for name in DATA}
    recipes = (nano_bases(), nano_units(), nano_vocoder(), nano_stage1(), nano_stage2())
    recipe = {type(made).__name__: plain(made) for made in recipes}
    begin_run(
        folder,
        "nano",
        {
            "seed": seed,
            "data": data,
            "recipe": recipe,
        },
        product="checkpoint",
        also_writes=(*(part for part in PARTS if part != "checkpoint"), LOGS),
        restart=restart,
    )


def build(folder: Path, part: str, *, device: str = "auto", dtype: str = "auto") -> None:
    """Make one part, going on where it was stopped.

    Raises UserError if a part that it needs is not complete, or DIR was made of something else.
    """
    begin(folder)
    for needed in NEEDS[part]:
        if not is_there(folder, needed):
            raise missing(folder, needed, part)
    (folder / part).mkdir(parents=True, exist_ok=True)
    at = Setting(folder=folder, seed=_seed(folder), device=device, dtype=dtype)
    write_json(folder / part / MARKER, PARTS[part](at))


def build_all(
    folder: Path,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> None:
    """Make every part that is not complete, `jobs` at a time, each in its own process.

    jobs: by default two, or one where a GPU would be shared or there is but one core. threads: of
    each part; by default those that begin together share the cores.
    Raises UserError if there is no data or a part fails.
    """
    for package, extra in USED_BY_PARTS.items():
        need(package, extra, "training the nano")
    cores = os.cpu_count() or 1
    jobs = jobs or (1 if torch.cuda.is_available() else min(2, cores))
    begin(folder)

    def command(part: str, sharing: int) -> list[str]:
        count = str(threads or max(1, cores // sharing))
        call = [sys.executable, "-m", "train.cli", "nano", str(folder)]
        return [*call, "--part", part, "--threads", count, "--device", device, "--dtype", dtype]

    run_parts(
        folder,
        {part: [need for need in needs if need != "data"] for part, needs in NEEDS.items()},
        complete=lambda part: complete(folder, part),
        command=command,
        jobs=jobs,
        show=StatusLine(),
    )


def _seed(folder: Path) -> int:
    """What DIR was begun with."""
    return read_json(folder / FILE)["made_of"]["seed"]


def _lm(at: Setting) -> dict[str, float]:
    folder = at.folder
    recipe = nano_bases()
    return train_lm(
        read_manifest(folder / "data" / "text.jsonl"),
        size=recipe.lm,
        loop=at.loop(recipe.lm_loop),
        output=folder / "lm",
    )


def _letters(at: Setting) -> dict[str, float]:
    recipe = nano_bases()
    return _hearing(at, "letters", recipe.encoder_loop, clean_epochs=recipe.encoder_clean_epochs)


def _encoder(at: Setting) -> dict[str, float]:
    loop = nano_bases().encoder_again
    return _hearing(at, "encoder", loop, begin_with=at.folder / "letters")


def _hearing(
    at: Setting,
    part: str,
    loop: LoopConfig,
    *,
    clean_epochs: int = 0,
    begin_with: Path | None = None,
) -> dict[str, float]:
    """Letters from English, and none from sounds; other languages have letters of their own."""
    manifest = read_manifest(at.folder / "data" / "records.jsonl")
    return train_encoder(
        transcribed(manifest, "train", language="en"),
        transcribed(manifest, "validation", language="en"),
        architecture=nano_bases().encoder,
        loop=at.loop(loop),
        output=at.folder / part,
        clean_epochs=clean_epochs,
        augmentation=AugmentConfig(),
        begin_with=begin_with,
    )


def _units(at: Setting) -> dict[str, float]:
    folder = at.folder
    recipe = nano_units()
    make_units(
        {
            name: read_manifest(folder / "data" / name)
            for name in ("records.jsonl", "reading.jsonl")
        },
        load_speech_encoder(_encoder_folder(folder)).eval().to(choose_device(at.device)),
        UnitsConfig(
            kind="speech_encoder", name="speech_encoder",
            layer=recipe.layer, smooth_frames=recipe.smooth_frames,
        ),
        clusters=recipe.clusters,
        output=folder / "units",
        seed=at.seed,
    )  # fmt: skip
    return read_json(folder / "units" / "kmeans_report.json")


def _vocoder(at: Setting) -> dict[str, float]:
    folder = at.folder
    recipe = nano_vocoder()
    training, validation = clips(folder / "units")
    # What it will say counts for more than what only shows the voice.
    said = set(answers([read_manifest(folder / "units" / "records.jsonl")]))
    shares = [recipe.answer_share if clip.path.resolve() in said else 1 for clip in training]
    return train_vocoder(
        [clip for clip, share in zip(training, shares, strict=True) for _ in range(share)],
        validation, architecture=recipe.architecture, loop=at.loop(recipe.loop),
        output=folder / "vocoder",
    )  # fmt: skip


def _stage1(at: Setting) -> dict[str, float]:
    folder = at.folder
    recipe = nano_stage1()
    return train_stage1(
        read_manifest(folder / "data" / "records.jsonl"),
        speech_encoder=_encoder_folder(folder),
        language_model=str(folder / "lm" / "language_model"),
        recipe=replace(recipe, loop=at.loop(recipe.loop)),
        output=folder / "stage1",
    )


def _stage2(at: Setting) -> dict[str, float]:
    folder = at.folder
    recipe = nano_stage2()
    hearing = replace(recipe.hearing, loop=at.loop(recipe.hearing.loop))
    return train_stage2(
        folder / "stage1" / "checkpoint",
        read_manifest(folder / "units" / "records.jsonl"),
        recipe=replace(recipe, hearing=hearing, loop=at.loop(recipe.loop)),
        output=folder / "stage2",
        frames=folder / "stage1" / "frames",
    )


def _checkpoint(at: Setting) -> dict[str, float]:
    """All that was trained as one self-contained folder of half-precision weights."""
    folder = at.folder
    model, processor = load(folder / "stage2" / "checkpoint")
    model.vocoder = load_vocoder(folder / "vocoder" / "vocoder")
    model.save_pretrained(
        folder / "checkpoint",
        self_contained=True,
        dtype=torch.float16,
        processor=processor,
        carry=folder / "units",
    )
    size = sum(file.stat().st_size for file in (folder / "checkpoint").rglob("*"))
    return {"megabytes": size / 1e6}


def _evaluation(at: Setting) -> dict[str, Any]:
    folder = at.folder
    report = measure(
        folder / "checkpoint",
        read_manifest(folder / "units" / "records.jsonl"),
        folder / "evaluation",
        device=at.device,
    )
    write_json(folder / "evaluation" / "report.json", report)
    made = {part: read_json(folder / part / MARKER) for part in NEEDS if complete(folder, part)}
    write_text(folder / "checkpoint" / "README.md", model_card(report, made))
    return report


def _encoder_folder(folder: Path) -> str:
    return str(folder / "encoder" / "encoder")


PARTS: dict[str, Callable[[Setting], Mapping[str, Any]]] = {
    "letters": _letters,
    "encoder": _encoder,
    "lm": _lm,
    "units": _units,
    "vocoder": _vocoder,
    "stage1": _stage1,
    "stage2": _stage2,
    "checkpoint": _checkpoint,
    "evaluation": _evaluation,
}
# In the order in which they begin. The LLM waits: the ears take longest, and alone they have all
# the cores.
NEEDS: dict[str, tuple[str, ...]] = {
    "letters": ("data",),
    "encoder": ("data", "letters"),
    "units": ("data", "encoder"),
    "lm": ("data", "encoder"),
    "vocoder": ("units",),
    "stage1": ("data", "encoder", "lm"),
    "stage2": ("units", "stage1"),
    "checkpoint": ("stage2", "vocoder"),
    "evaluation": ("checkpoint",),
}
