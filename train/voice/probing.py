"""Which layer's units to take: what they tell of the phones that are said, on held-out answers.

The measures are HuBERT's (Hsu et al. 2021, arXiv 2106.07447, section IV.E), here with phones that
pocketsphinx has aligned. They ask for words, not for sound: how well a voice can be made of a
layer's units is heard from a vocoder alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn
from tqdm import tqdm

from data_tools.manifest import Manifest
from omni.audio import FRAME_RATE, load_audio
from omni.files import UserError, read_json, read_lines, write_json, write_lines
from omni.frame_cache import weights_digest
from omni.units import UnitExtractor, UnitsConfig, merge_repeats
from train.data import data_of, plain
from train.loop import begin_run, from_first
from train.voice.kmeans import fit_units
from train.voice.phones import SILENCE, PhoneAligner

log = logging.getLogger(__name__)
BATCH = 16
FEW = 20  # frames per unit, below which the mutual information comes out too high


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """What the units of one layer are worth, over the frames of held-out answers in which someone
    speaks.

    pnmi: phone-normalised mutual information: the share of what there is to know of the phone that
        the unit tells; 1 keeps every word apart.
    unit_bits: entropy of the unit where the phone is known: what the text does not foretell, and
        the unit decoder has to guess; 0 is a unit for each phone.
    phone_purity: how often the phone is its unit's most frequent one; cluster_purity: how often the
        unit is its phone's.
    """

    layer: int
    pnmi: float
    unit_bits: float
    phone_purity: float
    cluster_purity: float
    units_per_second: float  # repeats merged, pauses included
    frames: int


def measure_layers(
    manifest: Manifest,
    encoder: nn.Module,
    config: UnitsConfig,
    layers: Sequence[int],
    *,
    clusters: int,
    output: Path,
    seed: int = 1,
    max_hours: float = 0.5,
    restart: bool = False,
) -> list[LayerReport]:
    """Fit units of each layer on split "train", and measure them on split "validation".

    config: of the units; its layer is replaced. Leaves report.json in `output`, and the extractor
    of each layer in layer-N/units. What is there is not made again, and layers may be added.
    Raises UserError if a split has no spoken answers or none can be aligned.
    """
    training = spoken_answers(manifest, "train")
    held_out = spoken_answers(manifest, "validation")
    held_out = {path: text for path, text in held_out.items() if path not in training}
    for split, found in (("train", training), ("validation", held_out)):
        if not found:
            raise UserError(
                f"{manifest}: no spoken answer in split {split}"
                + (" that is not in train, too" * (split == "validation"))
                + "; layers are fitted on the one and compared on the other"
            )
    recipe = {
        "features": plain(replace(config, layer=0)),
        "clusters": clusters,
        "max_hours": max_hours,
        "seed": seed,
    }
    begin_run(
        output,
        "layers",
        {
            "data": data_of(manifest, "train", "validation", heard=("assistant",)),
            "recipe": recipe,
            "bases": {"speech_encoder": weights_digest(encoder)},
        },
        product="report.json",
        also_writes=("layer-*", "phones.jsonl"),
        restart=restart,
        names={"data": str(manifest.root)},
    )

    def measure() -> list[LayerReport]:
        phones = aligned_phones(held_out, output / "phones.jsonl")
        found = []
        for layer in layers:
            folder = output / f"layer-{layer}"
            own = replace(config, layer=layer)
            if not (folder / "report.json").is_file():
                fit_units(
                    list(training), encoder, own, clusters=clusters, output=folder, seed=seed,
                    max_hours=max_hours,
                )  # fmt: skip
                extractor = UnitExtractor.load(folder / "units", encoder=encoder)
                write_json(folder / "report.json", asdict(compare(extractor, phones)))
            found.append(LayerReport(**read_json(folder / "report.json")))
        write_json(
            output / "report.json",
            {
                "answers": len(held_out),
                "aligned": len(phones),
                "layers": [asdict(report) for report in found],
            },
        )
        return found

    return from_first(measure)  # k-means is one process's work


def spoken_answers(manifest: Manifest, split: str) -> dict[Path, str]:
    """The recorded answers of a split, each once, and what they say."""
    return {
        manifest.audio_path(turn).resolve(): turn.text
        for record in manifest.records
        if record.split == split
        for turn in record.turns[1::2]
        if turn.speech is not None
    }


def aligned_phones(recordings: Mapping[Path, str], file: Path) -> dict[Path, list[str]]:
    """The phone of every frame of each recording that could be aligned; kept in `file`, in order.

    Raises UserError if none could.
    """
    if not file.is_file():
        aligner = PhoneAligner()
        work = tqdm(recordings.items(), desc="phones", unit="file")
        write_lines(file, [aligner.align(load_audio(path), text) for path, text in work])
    rows = zip(recordings, read_lines(file), strict=True)
    found = {path: phones for path, phones in rows if phones is not None}
    if not found:
        raise UserError(
            f"{len(recordings)} held-out answers: none could be aligned with its text; layers are "
            "compared on English speech that says what its text says, numbers as words"
        )
    log.info("%d of %d held-out answers are aligned", len(found), len(recordings))
    return found


def compare(extractor: UnitExtractor, phones: Mapping[Path, list[str]]) -> LayerReport:
    """The units of these recordings against their phones."""
    paths = list(phones)
    names: list[str] = []
    units: list[np.ndarray] = []
    merged = frames = 0
    for start in tqdm(range(0, len(paths), BATCH), desc=f"layer {extractor.config.layer}"):
        batch = paths[start : start + BATCH]
        said = extractor.extract_batch([load_audio(path) for path in batch])
        for path, row in zip(batch, said, strict=True):
            both = min(len(row), len(phones[path]))  # the two frame the last samples differently
            names += phones[path][:both]
            units.append(row[:both])
            merged += len(merge_repeats(row))
            frames += len(row)
    phone = np.array(names)
    spoken = phone != SILENCE
    if spoken.sum() < FEW * extractor.units:
        log.warning(
            "%d frames of speech for %d units, fewer than %d each: pnmi comes out too high; hold "
            "out more answers, or compare with fewer clusters",
            spoken.sum(), extractor.units, FEW,
        )  # fmt: skip
    counts = joint_counts(phone[spoken], np.concatenate(units)[spoken], extractor.units)
    return LayerReport(
        layer=extractor.config.layer,
        units_per_second=merged * FRAME_RATE / frames,
        frames=int(counts.sum()),
        **measures(counts),
    )


def joint_counts(phones: np.ndarray, units: np.ndarray, clusters: int) -> np.ndarray:
    """[n] names, [n] units -> [phones, clusters]: how often each pair was there."""
    names, place = np.unique(phones, return_inverse=True)
    flat = np.bincount(place * clusters + units, minlength=len(names) * clusters)
    return flat.reshape(len(names), clusters)


def measures(counts: np.ndarray) -> dict[str, float]:
    """[phones, clusters] -> the measures of `LayerReport`, by their names; in bits."""
    joint = counts / counts.sum()
    phone, unit, both = (_entropy(p) for p in (joint.sum(1), joint.sum(0), joint.ravel()))
    told = phone + unit - both
    return {
        "pnmi": told / phone if phone else 0.0,
        "unit_bits": unit - told,
        "phone_purity": float(joint.max(0).sum()),
        "cluster_purity": float(joint.max(1).sum()),
    }


def _entropy(probabilities: np.ndarray) -> float:
    p = probabilities[probabilities > 0]
    return float(-(p * np.log2(p)).sum())
