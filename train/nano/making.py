"""The embedded default as one resumable recipe: bases, units, voice, two stages, checkpoint.

Layout of DIR: data/ (by `omni-data nano`), then one folder per part, each complete when its last
file is there, and logs/; checkpoint/ is what ships.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data_tools.manifest import ROLES, read_manifest
from data_tools.speech import AugmentConfig
from omni.files import write_json, write_text
from train.bases import train_encoder, train_lm, transcribed
from train.data import data_of, plain
from train.loop import LoopConfig, begin_run
from train.nano.card import model_card
from train.nano.measuring import measure
from train.parts import (
    DATA,
    LOGS,
    Given,
    MadeInParts,
    Setting,
    begun_with,
    learn_to_speak,
    make_answer_units,
    make_own_voice,
    megabytes,
    results,
    with_voice,
)
from train.stages import (
    nano_bases,
    nano_stage1,
    nano_stage2,
    nano_units,
    nano_vocoder,
    train_stage1,
)

SEED = 1


def begin(folder: Path, *, restart: bool = False, **options: Any) -> Setting:
    """Take DIR for this data, recipe and seed, or see that it was made of them.

    options: seed of every part, where None takes the one that DIR was begun with; device and dtype.
    restart: removes every part.
    Raises UserError if there is no data, or if DIR's parts were made of something else.
    """
    NANO.require_given(folder)
    given = {name: value for name, value in options.items() if value is not None}
    given = {"seed": begun_with(folder, restart=restart).get("seed", SEED)} | given
    at = Setting(folder=folder, **given)
    data = {name: data_of(read_manifest(folder / "data" / name), heard=ROLES) for name in DATA}
    recipes = (nano_bases(), nano_units(), nano_vocoder(), nano_stage1(), nano_stage2())
    recipe = {type(made).__name__: plain(made) for made in recipes}
    begin_run(
        folder,
        NANO.name,
        {"seed": at.seed, "data": data, "recipe": recipe},
        product="checkpoint",
        also_writes=(*(part for part in NANO.parts if part != "checkpoint"), LOGS),
        restart=restart,
    )
    return at


def _lm(at: Setting) -> dict[str, float]:
    folder = at.folder
    recipe = nano_bases()
    return train_lm(
        read_manifest(folder / "data" / "text.jsonl"),
        size=recipe.lm,
        loop=at.loop(recipe.lm_loop),
        word_dropout=recipe.lm_word_dropout,
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


def _units(at: Setting) -> dict[str, Any]:
    return make_answer_units(at, nano_units(), speech_encoder=_encoder_folder(at.folder))


def _vocoder(at: Setting) -> dict[str, float]:
    return make_own_voice(at, nano_vocoder())


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
    return learn_to_speak(at, nano_stage2(), frames=at.folder / "stage1" / "frames")


def _checkpoint(at: Setting) -> dict[str, float]:
    """All that was trained as one self-contained folder of half-precision weights."""
    model, processor = with_voice(at.folder)
    model.save_pretrained(
        at.folder / "checkpoint",
        self_contained=True,
        dtype=torch.float16,
        processor=processor,
        carry=at.folder / "units",
    )
    return {"megabytes": megabytes(at.folder / "checkpoint")}


def _evaluation(at: Setting) -> dict[str, Any]:
    folder = at.folder
    report = measure(
        folder / "checkpoint",
        read_manifest(folder / "units" / "records.jsonl"),
        folder / "evaluation",
        device=at.device,
    )
    write_json(folder / "evaluation" / "report.json", report)
    card = model_card(report, results(folder, NANO.parts))
    write_text(folder / "checkpoint" / "README.md", card)
    return report


def _encoder_folder(folder: Path) -> str:
    return str(folder / "encoder" / "encoder")


NANO = MadeInParts(
    name="nano",
    begin=begin,
    parts={
        "letters": _letters,
        "encoder": _encoder,
        "lm": _lm,
        "units": _units,
        "vocoder": _vocoder,
        "stage1": _stage1,
        "stage2": _stage2,
        "checkpoint": _checkpoint,
        "evaluation": _evaluation,
    },
    # In the order in which they begin: the ears take longest.
    needs={
        "letters": ("data",),
        "encoder": ("data", "letters"),
        "units": ("data", "encoder"),
        "lm": ("data",),
        "vocoder": ("units",),
        "stage1": ("data", "encoder", "lm"),
        "stage2": ("units", "stage1"),
        "checkpoint": ("stage2", "vocoder"),
        "evaluation": ("checkpoint",),
    },
    given={"data": Given("data/records.jsonl", "omni-data nano --output {folder}/data")},
    # Asked for before the first part begins, and some are used in the last, hours later.
    packages={"tensorboard": "train", "sklearn": "train", "jiwer": "eval", "pocketsphinx": "eval"},
)
