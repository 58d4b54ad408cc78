"""An own voice: a vocoder trained on recordings of one speaker and their frame-level units."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from omni.files import UserError, digest_of, files_digest
from omni.frame_cache import weights_digest
from omni.vocoder import VOCODERS, HifiGanConfig, NsfConfig, Vocoder, save_vocoder
from train.data import plain
from train.loop import LoopConfig, begin_run, check_installed, filled, train
from train.voice.crops import CropConfig, Crops, UnitClip, collate
from train.voice.discriminators import DiscriminatorConfig, Discriminators
from train.voice.learning import LearnsToSound, LossWeights, mean_parts


def in_tune(loop: LoopConfig) -> LoopConfig:
    """The same in float32 where DeepSpeed or FSDP would cast the weights themselves.

    Log F0 has steps of half a semitone in bfloat16; autocast, which is used elsewhere, spares it.
    Raises UserError if another type is asked for.
    """
    if loop.deepspeed is None and loop.fsdp is None:
        return loop
    if loop.dtype not in ("auto", "float32"):
        raise UserError(
            f"dtype={loop.dtype!r}: a vocoder trains in float32 under DeepSpeed and FSDP; leave "
            "one of the two options out"
        )
    return replace(loop, dtype="float32")


def train_vocoder(
    clips: list[UnitClip],
    validation: list[UnitClip],
    *,
    architecture: HifiGanConfig | NsfConfig,
    loop: LoopConfig,
    output: Path,
    crop: CropConfig | None = None,
    weights: LossWeights | None = None,
    discriminators: DiscriminatorConfig | None = None,
    begin_with: Vocoder | None = None,
    restart: bool = False,
) -> dict[str, float]:
    """Train, and leave the vocoder in `output/vocoder`.

    Resumes from what `output` holds; restart: removes that first. discriminators: of adversarial
    training; None: reconstruction alone. They begin anew and are kept in the run's checkpoints.
    begin_with: a vocoder whose weights and sizes are taken instead of `architecture`'s.
    Raises ValueError for clips whose units are unknown to the architecture or do not fit the
    recording's length, and UserError if `output` holds a run of something else, or if
    discriminators are asked for under DeepSpeed or FSDP. Returns the validation's loss and its
    parts.
    """
    check_installed(loop)
    if discriminators is not None and (loop.deepspeed or loop.fsdp):
        raise UserError(
            "discriminators: stand still for one half of each step, which DeepSpeed and FSDP don't "
            "know of; leave --deepspeed or --fsdp out, for several processes do without, or give "
            "--discriminators 0"
        )
    loop = in_tune(loop)
    crop, weights = crop or CropConfig(), weights or LossWeights()
    if begin_with is not None:
        architecture = begin_with.config
    heard = [*clips, *validation]
    run = begin_run(
        output,
        "vocoder",
        {
            "data": {
                "clips": {"train": len(clips), "validation": len(validation)},
                "units": digest_of([clip.frame_units.tolist() for clip in heard]),
                "recordings": files_digest(clip.path for clip in heard),
            },
            "recipe": {
                "architecture": plain(architecture),
                "loop": plain(loop),
                "crop": plain(crop),
                "weights": plain(weights),
            }
            | ({} if discriminators is None else {"discriminators": plain(discriminators)})
            | ({} if begin_with is None else {"vocoder": weights_digest(begin_with)}),
        },
        product="vocoder",
        also_writes=("checkpoint-*", "runs"),
        restart=restart,
    )
    if run.result is not None:
        return run.result
    torch.manual_seed(loop.seed)  # of the first weights
    make = VOCODERS[architecture.kind]
    vocoder = make(architecture) if begin_with is None else begin_with.float().requires_grad_(True)
    module = LearnsToSound(
        vocoder,
        weights,
        None if discriminators is None else Discriminators(discriminators),
        edge_frames=crop.edge_frames,
    )
    result = train(
        module,
        config=loop,
        output=output,
        dataset=Crops(clips, num_units=vocoder.num_units, crop=crop, seed=loop.seed),
        lengths=[crop.frames] * len(clips),
        collate=collate,
        count=lambda batch: len(batch["units"]),
        validation=(
            Crops(validation, num_units=vocoder.num_units, crop=crop, seed=loop.seed)
            if validation
            else None
        ),
        metrics=partial(mean_parts, module.part_names),
        finish=lambda weights: save_vocoder(
            filled(make(architecture), weights, "vocoder"), output / "vocoder"
        ),
    )
    return run.finish(result)
