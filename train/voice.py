"""From recorded answers to units: fit the k-means, label the answers, write them into manifests."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from data_tools.manifest import Manifest, Record, Turn, write_manifest
from omni.checkpoint import read_tensors, replace_folder
from omni.errors import UserError
from omni.units import UnitExtractor, UnitsConfig, merge_repeats
from train.kmeans import fit_units, label_corpus, read_frame_units
from train.vocoder import Clip

HELD_OUT = 20  # one recording of so many validates the vocoder
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
) -> list[Path]:
    """Fit on all recorded answers and label them.

    manifests: by the file name that each gets in `output`, with units filled in. Leaves there
    also units/ (the extractor) and frame_units.jsonl. Returns the manifests written. What is
    there is not made again.
    """
    recordings = answers(list(manifests.values()))
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "units" / "config.json").is_file():
        fit_units(recordings, encoder, config, clusters=clusters, output=output, seed=seed)
    extractor = UnitExtractor.load(output / "units", encoder=encoder)
    named = [(os.path.relpath(path, output), path) for path in recordings]
    frame_units = label_corpus(named, extractor, output / FRAME_UNITS)
    written = []
    for name, manifest in manifests.items():
        records = [_labelled(record, manifest, frame_units, output) for record in manifest.records]
        write_manifest(output / name, records)
        written.append(output / name)
    return written


def _labelled(
    record: Record, manifest: Manifest, frame_units: dict[str, np.ndarray], output: Path
) -> Record:
    """The record with units, its audio paths counted from the new manifest's folder."""

    def turn(old: Turn) -> Turn:
        if old.speech is None:
            return old
        path = os.path.relpath(manifest.audio_path(old).resolve(), output)
        if old.role == "user":
            return replace(old, speech=path)
        units = tuple(merge_repeats(frame_units[path]).tolist())
        return replace(old, speech=path, units=units)

    return replace(record, turns=tuple(turn(old) for old in record.turns))


def clips(units_folder: Path) -> tuple[list[Clip], list[Clip]]:
    """The labelled answers as the vocoder's training and validation clips.

    Which is which depends on the recording's name alone.
    """
    found = read_frame_units(units_folder / FRAME_UNITS)
    parts: tuple[list[Clip], list[Clip]] = ([], [])
    for key, units in found.items():
        held_out = zlib.crc32(Path(key).name.encode()) % HELD_OUT == 0
        parts[held_out].append(Clip(units_folder / key, units))
    return parts


def unit_count(extractor: Path) -> int | None:
    """K of an extractor's folder; None if there is no such folder."""
    if not extractor.is_dir():
        return None
    return len(read_tensors(extractor / "centroids.safetensors")["centroids"])


def join_voice(checkpoint: Path, *, units: Path, vocoder: Path | None) -> None:
    """Copy the units' extractor (where there is one) and the vocoder into a checkpoint."""
    for name, source in (("units", units), ("vocoder", vocoder)):
        if source is not None and source.is_dir():
            with replace_folder(checkpoint / name) as aside:
                shutil.copytree(source, aside, dirs_exist_ok=True)
