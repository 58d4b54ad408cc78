"""The parts that give a model its voice: units of the recorded answers, vocoder, unit decoder.

DIR/data has the recordings; each part takes a recipe, and leaves its results in DIR/PART.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from data_tools.manifest import read_manifest
from omni.checkpoint import load_speech_encoder
from omni.devices import choose_device
from omni.files import read_json
from omni.loading import load
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.units import UnitsConfig
from omni.vocoder import load_vocoder
from train.parts.making import Setting
from train.stages import Stage2, UnitsRecipe, VocoderRecipe, train_stage2
from train.voice import answers, clips, make_units, train_vocoder

SPOKEN = ("records.jsonl", "reading.jsonl")  # whose answers are recorded


def make_answer_units(at: Setting, recipe: UnitsRecipe, *, speech_encoder: str) -> dict[str, Any]:
    """k-means on a layer of the encoder, and both manifests with their answers' units."""
    folder = at.folder
    make_units(
        {name: read_manifest(folder / "data" / name) for name in SPOKEN},
        load_speech_encoder(speech_encoder).eval().to(choose_device(at.device)),
        UnitsConfig(
            kind="speech_encoder", name="speech_encoder",
            layer=recipe.layer, smooth_frames=recipe.smooth_frames,
        ),
        clusters=recipe.clusters,
        output=folder / "units",
        seed=at.seed,
    )  # fmt: skip
    return read_json(folder / "units" / "kmeans_report.json")


def make_own_voice(at: Setting, recipe: VocoderRecipe) -> dict[str, float]:
    """The vocoder, of the units' recordings."""
    folder = at.folder
    training, validation = clips(folder / "units")
    # What it will say counts for more than what only shows the voice.
    said = set(answers([read_manifest(folder / "units" / "records.jsonl")]))
    shares = [recipe.answer_share if clip.path.resolve() in said else 1 for clip in training]
    return train_vocoder(
        [clip for clip, share in zip(training, shares, strict=True) for _ in range(share)],
        validation, architecture=recipe.architecture, loop=at.loop(recipe.loop),
        output=folder / "vocoder", discriminators=recipe.discriminators,
    )  # fmt: skip


def learn_to_speak(at: Setting, recipe: Stage2, *, frames: Path) -> dict[str, float]:
    """Stage 2, on what stage 1 left. frames: the encoded questions."""
    folder = at.folder
    hearing = replace(recipe.hearing, loop=at.loop(recipe.hearing.loop))
    return train_stage2(
        folder / "stage1" / "checkpoint",
        read_manifest(folder / "units" / "records.jsonl"),
        recipe=replace(recipe, hearing=hearing, loop=at.loop(recipe.loop)),
        output=folder / "stage2",
        frames=frames,
    )


def with_voice(folder: Path) -> tuple[OmniForConditionalGeneration, OmniProcessor]:
    """The whole model: what stage 2 left, and the vocoder."""
    model, processor = load(folder / "stage2" / "checkpoint")
    model.vocoder = load_vocoder(folder / "vocoder" / "vocoder")
    return model, processor


def megabytes(folder: Path) -> float:
    """Of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
