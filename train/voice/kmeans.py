"""Fit the k-means that turns features into units, and label a corpus with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from omni.audio import FRAME_RATE, load_audio
from omni.files import ALONE, Share, UserError, appending, need, read_lines, write_json, write_lines
from omni.units import UnitExtractor, UnitsConfig, features_of, merge_repeats


@dataclass(frozen=True, kw_only=True)
class KMeansReport:
    """What a fit came to."""

    frames: int  # that it was fitted on
    hours: float
    inertia_per_frame: float  # mean squared distance to the nearest centroid
    variance_per_frame: float  # the same to the mean of all frames, for comparison
    merged_units_per_second: float
    used_units: int  # centroids that are the nearest of at least one frame


def fit_units(
    paths: Sequence[Path],
    encoder: nn.Module,
    config: UnitsConfig,
    *,
    clusters: int,
    output: Path,
    seed: int = 1,
    max_hours: float = 3.0,
    batch_size: int = 16,
) -> KMeansReport:
    """Fit on at most `max_hours` of the recordings, drawn by `seed`; write `output/units`.

    Three hours are 540,000 frames; k-means with 1000 centres gains little from more.
    """
    need("sklearn", "train", "k-means")
    from sklearn.cluster import MiniBatchKMeans

    order = np.random.default_rng(seed).permutation(len(paths))
    recordings = _features([paths[index] for index in order], encoder, config, batch_size)
    taken, frames = [], 0
    for features in tqdm(recordings, total=len(paths), desc="features", unit="file"):
        taken.append(features)
        frames += len(features)
        if frames >= max_hours * 3600 * FRAME_RATE:
            break
    if frames < clusters:
        raise UserError(
            f"{frames} frames of speech for clusters={clusters}: give at least one frame each, "
            "and better a hundred; add recordings or ask for fewer clusters"
        )
    data = np.concatenate(taken)  # [frames, D]
    kmeans = MiniBatchKMeans(
        clusters, batch_size=10_000, max_no_improvement=50, random_state=seed
    ).fit(data)
    extractor = UnitExtractor(config, torch.from_numpy(kmeans.cluster_centers_), encoder)
    labels = [extractor.nearest(torch.from_numpy(features)).numpy() for features in taken]
    distance = data - extractor.centroids.numpy()[np.concatenate(labels)]
    merged = sum(len(merge_repeats(units)) for units in labels)
    report = KMeansReport(
        frames=frames,
        hours=frames / FRAME_RATE / 3600,
        inertia_per_frame=float(np.square(distance).sum(-1).mean()),
        variance_per_frame=float(data.var(axis=0).sum()),
        merged_units_per_second=merged * FRAME_RATE / frames,
        used_units=len(np.unique(np.concatenate(labels))),
    )
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "kmeans_report.json", asdict(report))
    extractor.save(output / "units")  # last: where it is, nothing is fitted again
    return report


def _features(
    paths: Sequence[Path], encoder: nn.Module, config: UnitsConfig, batch_size: int
) -> Iterator[np.ndarray]:
    """[F, D] float32 of each recording, in order."""
    features = features_of(config, encoder)
    remaining = iter(paths)
    while batch := list(islice(remaining, batch_size)):
        for frames in features([load_audio(path) for path in batch]):
            yield frames.cpu().numpy()


def label_corpus(
    recordings: Sequence[tuple[str, Path]],
    extractor: UnitExtractor,
    output: Path,
    *,
    batch_size: int = 16,
    share: Share = ALONE,
) -> dict[str, np.ndarray]:
    """Frame units of every recording, in `output` (JSON lines) and returned by key.

    A killed run goes on where it stopped; `output` itself appears only when all are labelled. A
    corpus that grew since is only labelled where it is new. share: of several processes that
    label together, which one this is.
    Raises UserError if keys repeat or if what is there was made with another extractor.
    """
    keys = [key for key, _ in recordings]
    if repeated := [key for key, times in Counter(keys).items() if times > 1]:
        raise UserError(f"{', '.join(repeated[:3])}: each key may name one recording; rename")
    fingerprint = extractor.fingerprint
    known = _labelled(output, fingerprint)
    todo = [(key, path) for key, path in recordings if key not in known]
    complete = output.exists() and not _parts(output)
    share.wait()  # until all have read what was there
    if complete and not todo:
        return {key: known[key] for key in keys}
    # Recordings of like length share a batch: little padding.
    todo.sort(key=lambda recording: (recording[1].stat().st_size, recording[0]))
    batches = [todo[start : start + batch_size] for start in range(0, len(todo), batch_size)]
    if share.first:
        output.parent.mkdir(parents=True, exist_ok=True)
        _write(_part(output, 0), fingerprint, known)
        _remove_parts(output, keep=1)
    share.wait()
    mine = share.of(batches)
    if not share.first:
        _write(_part(output, share.rank), fingerprint, {})
    with (
        appending(_part(output, share.rank)) as append,
        tqdm(total=sum(map(len, mine)), desc="units", unit="file", disable=not share.first) as bar,
    ):
        for batch in mine:
            frame_units = extractor.extract_batch([load_audio(path) for _, path in batch])
            pairs = zip(batch, frame_units, strict=True)
            append(_row(key, units) for (key, _), units in pairs)
            bar.update(len(batch))
    share.wait()
    if share.first:
        _write(output, fingerprint, _labelled(output, fingerprint))
        _remove_parts(output, keep=0)
    share.wait()
    known = _parse(output)[1]
    return {key: known[key] for key in keys}


def _part(output: Path, rank: int) -> Path:
    """Where a process writes what it labels; the first one's file holds what was there before."""
    return output.with_name(f"{output.name}.part" + (f"-{rank}" if rank else ""))


def _parts(output: Path) -> list[Path]:
    return sorted(output.parent.glob(f"{output.name}.part*"))


def _labelled(output: Path, fingerprint: str) -> dict[str, np.ndarray]:
    """All that is labelled: complete, or in parts that killed processes left."""
    known: dict[str, np.ndarray] = {}
    for path in [output, *_parts(output)]:
        known |= _resume(path, fingerprint)
    return known


def _remove_parts(output: Path, *, keep: int) -> None:
    for path in _parts(output)[keep:]:
        path.unlink()


def _write(path: Path, fingerprint: str, known: Mapping[str, np.ndarray]) -> None:
    rows = (_row(key, units) for key, units in known.items())
    write_lines(path, chain([{"extractor": fingerprint}], rows))


def read_frame_units(path: Path) -> dict[str, np.ndarray]:
    """key -> [F] int64, as `label_corpus` left them."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; label the corpus first")
    return _parse(path)[1]


def _row(key: str, units: np.ndarray) -> dict[str, Any]:
    return {"key": key, "units": units.tolist()}


def _resume(path: Path, fingerprint: str) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    found, known = _parse(path)
    if found != fingerprint:
        raise UserError(
            f"{path}: made with another unit extractor ({found}, this one is {fingerprint}); "
            "remove the file or choose another output"
        )
    return known


def _parse(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """The extractor's fingerprint and the units."""
    records = list(read_lines(path))
    if not records:
        return "", {}
    units = {record["key"]: np.array(record["units"], np.int64) for record in records[1:]}
    return records[0]["extractor"], units
