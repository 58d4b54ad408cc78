"""Units, vocoder and unit decoder that come from different places: do they know the same units?"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor

from omni.files import UserError, part_folder, read_tensors, replace_folder
from omni.vocoder import Vocoder, load_vocoder


def unit_count(extractor: Path) -> int | None:
    """K of an extractor's folder; None if there is no such folder."""
    if not extractor.is_dir():
        return None
    return len(_centroids(extractor))


def load_beginning(source: str, units: Path) -> Vocoder:
    """The vocoder that another one goes on from.

    source: its folder, or a checkpoint that carries it, nano and mini by name; units: the
    extractor's folder of what will be learnt. Raises UserError if it was trained on others, as
    far as their number, or the extractor beside it in its checkpoint, tells.
    """
    folder = part_folder(source, "vocoder")
    vocoder = load_vocoder(folder)
    own = part_folder(source, "units")
    same = vocoder.num_units == unit_count(units)
    if same and own.name == "units" and own.parent == folder.parent:
        same = _same_units(own, units)
    if not same:
        raise UserError(
            f"{source}: its vocoder speaks {vocoder.num_units} units of another extractor than "
            f"{units}; label the answers by its own: omni-train units --extractor"
        )
    return vocoder


def check_voice(checkpoint: Path, *, units: Path, vocoder: Path | None, warm_start: bool) -> None:
    """Refuse units by number alone: a vocoder and a unit decoder know their own ones only.

    units: an extractor's folder, if it is there, whose units will be learnt; vocoder: who will
    speak them, else the checkpoint's own. Raises UserError if that vocoder, or the decoder that
    training begins with, was trained on units of another extractor.
    """
    own = checkpoint / "units"
    stays = [
        *(["vocoder"] if vocoder is None and (checkpoint / "vocoder").is_dir() else []),
        *(["unit decoder"] if warm_start else []),
    ]
    if not stays or not own.is_dir() or not units.is_dir():
        return
    if not _same_units(units, own):
        raise UserError(
            f"{units}: not the units of {own}, which the checkpoint's {' and '.join(stays)} knows; "
            f"extract them by omni-data units --extractor {checkpoint}, or train a vocoder on "
            "these, give it by --voice, and leave out --warm-start"
        )


def _centroids(extractor: Path) -> Tensor:
    return read_tensors(extractor / "centroids.safetensors")["centroids"]


def _same_units(one: Path, other: Path) -> bool:
    first, second = _centroids(one).half(), _centroids(other).half()  # checkpoints are packed so
    return first.shape == second.shape and torch.equal(first, second)


def join_voice(checkpoint: Path, *, units: Path, vocoder: Path | None) -> None:
    """Copy the units' extractor (where there is one) and the vocoder into a checkpoint."""
    for name, source in (("units", units), ("vocoder", vocoder)):
        if source is not None and source.is_dir():
            with replace_folder(checkpoint / name) as aside:
                shutil.copytree(source, aside, dirs_exist_ok=True)
