"""From recorded answers to units: fit the k-means, label the answers, write them into manifests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from data_tools.manifest import Manifest, Record, RecordTurn, read_manifest, write_manifest
from omni.files import UserError, replace_folder
from omni.frame_cache import weights_digest
from omni.units import UnitExtractor, UnitsConfig, merge_repeats
from train.data import data_of, plain
from train.loop import begin_run, from_first, main_process, share
from train.voice.crops import UnitClip
from train.voice.kmeans import fit_units, label_corpus, read_frame_units

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

    def fit() -> None:
        fit_units(recordings, encoder, config, clusters=clusters, output=output, seed=seed)

    made_of = {
        "recipe": {"features": plain(config), "clusters": clusters, "seed": seed},
        "bases": {"speech_encoder": weights_digest(encoder)},
    }
    return _label(manifests, recordings, made_of, encoder, fit, output=output, restart=restart)


def label_answers(
    manifests: dict[str, Manifest],
    extractor: UnitExtractor,
    source: Path,
    *,
    output: Path,
    restart: bool = False,
) -> list[Path]:
    """As `make_units`, with the units of an extractor that is there.

    source: its folder, of which `output` gets a copy. Raises UserError if `output` holds units of
    other data or another extractor.
    """

    def take() -> None:
        with replace_folder(output / "units") as aside:
            shutil.copytree(source, aside, dirs_exist_ok=True)

    made_of = {
        "recipe": {"extractor": extractor.fingerprint},
        "bases": {"encoder": weights_digest(extractor.encoder)},
    }
    recordings = answers(list(manifests.values()))
    return _label(
        manifests, recordings, made_of, extractor.encoder, take, output=output, restart=restart
    )


def _label(
    manifests: dict[str, Manifest],
    recordings: Sequence[Path],
    made_of: Mapping[str, Any],
    encoder: nn.Module,
    put_extractor: Callable[[], None],
    *,
    output: Path,
    restart: bool,
) -> list[Path]:
    """put_extractor: leaves `output/units`."""
    run = begin_run(
        output,
        "units",
        {
            "data": {
                name: data_of(manifest, heard=("assistant",))
                for name, manifest in manifests.items()
            },
            **made_of,
        },
        product=FRAME_UNITS,
        also_writes=("units", "kmeans_report.json", f"{FRAME_UNITS}.part*", *manifests),
        restart=restart,
        names={name: str(manifest.root) for name, manifest in manifests.items()},
    )
    if run.result is not None and all((output / name).is_file() for name in manifests):
        return [output / name for name in manifests]

    def once() -> None:
        if not (output / "units" / "config.json").is_file():
            put_extractor()

    from_first(once)  # k-means is one process's work; the labelling is shared
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
