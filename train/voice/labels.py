"""From recorded answers to units: fit the k-means, label the answers, write them into manifests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data_tools.manifest import Manifest, Record, RecordTurn, read_manifest, write_manifest
from omni.files import UserError, read_tensors, replace_folder
from omni.frame_cache import weights_digest
from omni.units import UnitExtractor, UnitsConfig, merge_repeats
from train.data import data_of, plain
from train.loop import begin_run, from_first, main_process, share
from train.voice.kmeans import fit_units, label_corpus, read_frame_units
from train.voice.vocoder import UnitClip

FRAME_UNITS = "frame_units.jsonl"


def answers(manifests: Sequence[Manifest]) -> list[Path]:
    """Every recorded answer once. Raises UserError if there is none."""
    paths = {
        manifest.audio_path(turn).resolve()
        for manifest in manifests
        for record in manifest.records
        for turn in record.turns[1::2]
        if turn.speech is not None
    }
    if not paths:
        raise UserError(
            "manifests: no assistant turn has speech; speak the answers first, for units are made "
            "of them"
        )
    return sorted(paths)


def make_units(
    manifests: dict[str, Manifest],
    encoder: nn.Module,
    config: UnitsConfig,
    *,
    clusters: int,
    output: Path,
    seed: int = 1,
    restart: bool = False,
) -> list[Path]:
    """Fit on all recorded answers and label them.

    manifests: by the file name that each gets in `output`, with units filled in. Leaves there
    also units/ (the extractor) and frame_units.jsonl. Returns the manifests written. What is
    there is not made again; restart: removes it first. Raises UserError if `output` holds units
    of other data, another encoder, layer, number or seed.
    """
    recordings = answers(list(manifests.values()))
    run = begin_run(
        output,
        "units",
        {
            "data": {
                name: data_of(manifest, heard=("assistant",))
                for name, manifest in manifests.items()
            },
            "recipe": {"features": plain(config), "clusters": clusters, "seed": seed},
            "bases": {"speech_encoder": weights_digest(encoder)},
        },
        product=FRAME_UNITS,
        also_writes=("units", "kmeans_report.json", f"{FRAME_UNITS}.part*", *manifests),
        restart=restart,
        names={name: str(manifest.root) for name, manifest in manifests.items()},
    )
    if run.result is not None and all((output / name).is_file() for name in manifests):
        return [output / name for name in manifests]

    def fit() -> None:
        if not (output / "units" / "config.json").is_file():
            fit_units(recordings, encoder, config, clusters=clusters, output=output, seed=seed)

    from_first(fit)  # k-means is one process's work; the labelling is shared
    extractor = UnitExtractor.load(output / "units", encoder=encoder)
    named = [(os.path.relpath(path, output), path) for path in recordings]
    frame_units = label_corpus(named, extractor, output / FRAME_UNITS, share=share())
    written = []
    for name, manifest in manifests.items():
        records = [_labelled(record, manifest, frame_units, output) for record in manifest.records]
        if main_process():
            write_manifest(output / name, records)
        written.append(output / name)
    run.finish({"recordings": len(recordings)})
    return written


def _labelled(
    record: Record, manifest: Manifest, frame_units: dict[str, np.ndarray], output: Path
) -> Record:
    """The record with units, its audio paths counted from the new manifest's folder."""

    def turn(old: RecordTurn) -> RecordTurn:
        if old.speech is None:
            return old
        path = os.path.relpath(manifest.audio_path(old).resolve(), output)
        if old.role == "user":
            return replace(old, speech=path)
        units = tuple(merge_repeats(frame_units[path]).tolist())
        return replace(old, speech=path, units=units)

    return replace(record, turns=tuple(turn(old) for old in record.turns))


def clips(units_folder: Path) -> tuple[list[UnitClip], list[UnitClip]]:
    """The labelled answers of the manifests' splits "train" and "validation", as the vocoder's
    training and validation clips; each recording once.

    An answer that is given in several splits is trained on, if it is in "train". Raises UserError
    if none is.
    """
    split_of: dict[str, set[str]] = {}
    for path in sorted([*units_folder.glob("*.jsonl"), *units_folder.glob("*.parquet")]):
        for record in () if path.name == FRAME_UNITS else read_manifest(path).records:
            for turn in record.turns[1::2]:
                split_of.setdefault(str(turn.speech), set()).add(record.split)
    parts: dict[str, list[UnitClip]] = {"train": [], "validation": []}
    for key, units in read_frame_units(units_folder / FRAME_UNITS).items():
        for split, found in parts.items():
            if split in split_of.get(key, ()):
                found.append(UnitClip(units_folder / key, units))
                break
    if not parts["train"]:
        raise UserError(f"{units_folder}: no recorded answer is in split train; mark some as that")
    return parts["train"], parts["validation"]


def unit_count(extractor: Path) -> int | None:
    """K of an extractor's folder; None if there is no such folder."""
    if not extractor.is_dir():
        return None
    return len(_centroids(extractor))


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
    given, known = _centroids(units).half(), _centroids(own).half()  # checkpoints are packed so
    if given.shape != known.shape or not torch.equal(given, known):
        raise UserError(
            f"{units}: not the units of {own}, which the checkpoint's {' and '.join(stays)} knows; "
            f"extract them by omni-data units --extractor {checkpoint}, or train a vocoder on "
            "these, give it by --voice, and leave out --warm-start"
        )


def _centroids(extractor: Path) -> Tensor:
    return read_tensors(extractor / "centroids.safetensors")["centroids"]


def join_voice(checkpoint: Path, *, units: Path, vocoder: Path | None) -> None:
    """Copy the units' extractor (where there is one) and the vocoder into a checkpoint."""
    for name, source in (("units", units), ("vocoder", vocoder)):
        if source is not None and source.is_dir():
            with replace_folder(checkpoint / name) as aside:
                shutil.copytree(source, aside, dirs_exist_ok=True)
