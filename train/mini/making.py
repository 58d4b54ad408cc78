"""The mini as one resumable recipe: bases, data, alignment, two stages, units, voice, checkpoint.

Layout of DIR: data/ (by `omni-data mini`), frames/ (the encoded questions), a folder for each of
the other parts, and logs/; checkpoint/ is what ships.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data_tools.manifest import ROLES, read_manifest
from omni.checkpoint import base_digest
from omni.fetching import fetch_base, wanted_bases
from omni.files import UserError, is_hub_id, read_json, write_text
from train.data import data_of, plain
from train.loop import begin_run
from train.mini.card import model_card
from train.mini.setting import MiniSetting, chosen
from train.parts import (
    DATA,
    LOGS,
    MARKER,
    MadeInParts,
    begun_with,
    complete,
    learn_to_speak,
    make_answer_units,
    make_own_voice,
    megabytes,
    results,
    with_voice,
)
from train.stages import (
    mini_align,
    mini_stage1,
    mini_stage2,
    mini_units,
    mini_vocoder,
    train_align,
    train_stage1,
)

log = logging.getLogger(__name__)


def begin(folder: Path, *, restart: bool = False, **options: Any) -> MiniSetting:
    """Take DIR for these bases, data and recipe, or see that it was made of them.

    options: of MiniSetting; None takes what DIR was begun with, else the default. restart: removes
    every part that a run made here; data that were there before it stay.
    Raises UserError if DIR's parts were made of something else.
    """
    at = chosen(folder, begun_with(folder, restart=restart), **options)
    recipes = {
        "align": mini_align(),
        "stage1": mini_stage1(),
        "units": mini_units(),
        "vocoder": mini_vocoder(),
        "stage2": mini_stage2(),
    }
    begin_run(
        folder,
        MINI.name,
        at.made_of() | {"recipe": plain(recipes)},
        product="checkpoint",
        also_writes=(
            *(part for part in MINI.parts if part not in ("data", "checkpoint")),
            LOGS,
        ),
        shared=("data",),  # `omni-data mini` may have made it before
        restart=restart,
    )
    _check_data(folder)
    return at


def _check_data(folder: Path) -> None:
    """Raise UserError if the data are not those that the parts were made of."""
    if not complete(folder, "answers"):
        return
    made = read_json(folder / "answers" / MARKER)["data"]
    now = _data(folder)
    for name in DATA:
        if made[name] != now[name]:
            raise UserError(
                f"{folder}/data/{name}: has changed since its answers were complete; restore it, "
                "or take another folder, or --restart"
            )


def _data(folder: Path) -> dict[str, Any]:
    return {name: data_of(read_manifest(folder / "data" / name), heard=ROLES) for name in DATA}


def _bases(at: MiniSetting) -> dict[str, Any]:
    """Fetched where they are hub ids and not here; their digests."""
    found: dict[str, Any] = {}
    for part, base in at.bases.items():
        licence = ""
        if is_hub_id(base):
            (wanted,) = wanted_bases([base])
            got = fetch_base(replace(wanted, part=part), source=at.source, tell=log.info)
            licence = got.licence
            log.info("%s: %s, from %s", base, got.folder, got.origin)
        found[part] = {"base": base, "licence": licence, "digest": base_digest(part, base)}
    return found


def _spoken(at: MiniSetting, *more: str) -> None:
    """`omni-data mini` with this run's options."""
    arguments = ["mini", str(at.folder / "data"), "--questions", str(at.questions)]
    for name, value in (("texts", at.texts), ("prose", at.prose), ("piper", at.piper)):
        arguments += [] if value is None else [f"--{name}", value]
    at.omni_data(*arguments, *more)


def _made_data(at: MiniSetting) -> dict[str, Any]:
    _spoken(at)
    records = read_manifest(at.folder / "data" / "records.jsonl").records
    return {"records": len(records)}


def _answers(at: MiniSetting) -> dict[str, Any]:
    """What has no answer is answered by the LLM itself, so that it keeps what it knew."""
    _spoken(at, "--writer", "transformers", "--model", at.language_model, "--device", at.device)
    return {"data": _data(at.folder)}


def _frames(at: MiniSetting) -> dict[str, Any]:
    """The encoder's output for all that alignment and stages hear, as stage 1's recipe hears it."""
    recipe = mini_stage1()
    variants = 0 if recipe.augmentation is None else recipe.cached_variants or 0
    at.omni_data(
        "features", str(at.folder / "data" / "records.jsonl"),
        "--speech-encoder", at.speech_encoder, "--output", str(_frames_folder(at)),
        "--variants", str(variants), "--seed", str(at.seed), "--device", at.device,
        "--dtype", at.dtype,
    )  # fmt: skip
    return {"megabytes": megabytes(_frames_folder(at))}


def _frames_folder(at: MiniSetting) -> Path:
    return at.folder / "frames" / "frames"


def _align(at: MiniSetting) -> dict[str, float]:
    recipe = mini_align()
    hearing = replace(recipe.hearing, loop=at.loop(recipe.hearing.loop))
    return train_align(
        read_manifest(at.folder / "data" / "records.jsonl"),
        speech_encoder=at.speech_encoder,
        language_model=at.language_model,
        recipe=replace(recipe, hearing=hearing, loop=at.loop(recipe.loop)),
        output=at.folder / "align",
        cache=_frames_folder(at),
    )


def _stage1(at: MiniSetting) -> dict[str, float]:
    recipe = mini_stage1()
    return train_stage1(
        read_manifest(at.folder / "data" / "records.jsonl"),
        speech_encoder=at.speech_encoder,
        language_model=at.language_model,
        recipe=replace(recipe, loop=at.loop(recipe.loop)),
        output=at.folder / "stage1",
        cache=_frames_folder(at),
        adapter=at.folder / "align" / "speech_adapter",
    )


def _units(at: MiniSetting) -> dict[str, Any]:
    return make_answer_units(at, mini_units(), speech_encoder=at.speech_encoder)


def _vocoder(at: MiniSetting) -> dict[str, float]:
    return make_own_voice(at, mini_vocoder())


def _stage2(at: MiniSetting) -> dict[str, float]:
    return learn_to_speak(at, mini_stage2(), frames=_frames_folder(at))


def _checkpoint(at: MiniSetting) -> dict[str, float]:
    """What was trained alone, at half precision; the bases by their names and digests."""
    folder = at.folder / "checkpoint"
    model, processor = with_voice(at.folder)
    model.save_pretrained(
        folder, dtype=torch.float16, processor=processor, carry=at.folder / "units"
    )
    _pack(folder / "tokenizer.json")
    card = model_card(
        read_manifest(at.folder / "data" / "records.jsonl"), results(at.folder, MINI.parts)
    )
    write_text(folder / "README.md", card)
    return {"megabytes": megabytes(folder)}


def _pack(file: Path) -> None:
    """The same JSON without blanks: of the LLM's tokenizer less than half, and it ships too."""
    write_text(file, json.dumps(read_json(file), ensure_ascii=False, separators=(",", ":")))


MINI = MadeInParts(
    name="mini",
    begin=begin,
    parts={
        "bases": _bases,
        "data": _made_data,
        "answers": _answers,
        "frames": _frames,
        "align": _align,
        "stage1": _stage1,
        "units": _units,
        "vocoder": _vocoder,
        "stage2": _stage2,
        "checkpoint": _checkpoint,
    },
    # In the order in which they begin.
    needs={
        "bases": (),
        "data": (),
        "answers": ("bases", "data"),
        "frames": ("bases", "data"),
        "align": ("answers", "frames"),
        "units": ("answers",),
        "stage1": ("align",),
        "vocoder": ("units",),
        "stage2": ("stage1", "units"),
        "checkpoint": ("stage2", "vocoder"),
    },
    packages={"tensorboard": "train", "sklearn": "train", "jiwer": "train"},
)
