"""`omni-train stage1` and `omni-train stage2`: the two stages of the paper, on any bases."""

# As in cli.py, heavy imports stand inside the commands.
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from omni.commands import add_commands
from omni.files import UserError
from train.commands.options import (
    Frames,
    GoneOnFrom,
    ManifestPath,
    MaybeEncoder,
    MaybeLanguageModel,
    Output,
    TrainingOptions,
    Variants,
    changed,
    found_frames,
    set_up,
    tell,
    tell_plan,
)


def register(app: typer.Typer) -> None:
    """Add both commands to `omni-train`."""
    add_commands(app, stage1, stage2)


def stage1(
    manifest: ManifestPath,
    output: Output,
    recipe: Annotated[
        str,
        typer.Option(
            show_default=False,
            help="auto (by the LLM's size, with LoRA), lora, published (the full LLM), frozen (the "
            "adapter alone), nano or mini.",
        ),
    ],
    speech_encoder: MaybeEncoder = None,
    language_model: MaybeLanguageModel = None,
    checkpoint: GoneOnFrom = None,
    train_llm: Annotated[
        str | None, typer.Option(help="Of the LLM: lora, full or frozen; default: the recipe's.")
    ] = None,
    variants: Variants = None,
    frames: Frames = None,
    adapter: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="To begin with: what `omni-train align` left."),
    ] = None,
    keep_adapter: Annotated[
        bool | None,
        typer.Option(
            "--keep-adapter/--train-adapter",
            help="An aligned one stays, but for what the LLM reads in silence; default: the "
            "recipe's.",
        ),
    ] = None,
    text_share: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Share of questions put in writing.")
    ] = None,
    distillation_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Of a teacher beside cross-entropy: the LLM without LoRA, given the question in "
            "writing; default: the recipe's.",
        ),
    ] = None,
    *,
    options: TrainingOptions,
) -> None:
    """Stage 1: learn to answer what is heard. The model goes to DIR/checkpoint."""
    set_up(options.threads)
    from data_tools.manifest import read_manifest
    from data_tools.speech import AugmentConfig
    from train.commands.choose import choose_stage1
    from train.commands.plan import beginning_config, plan_stage1
    from train.stages import train_stage1

    begun = {
        "speech_encoder": speech_encoder,
        "language_model": language_model,
        "checkpoint": checkpoint,
    }
    name, chosen = choose_stage1(recipe, lambda: beginning_config(**begun).text_config, train_llm)
    loop = changed(chosen.loop, options)
    chosen = replace(
        chosen,
        loop=loop,
        text_share=chosen.text_share if text_share is None else text_share,
        distillation_weight=chosen.distillation_weight
        if distillation_weight is None
        else distillation_weight,
        keep_adapter=chosen.keep_adapter if keep_adapter is None else keep_adapter,
    )
    if variants is not None:
        augmentation = chosen.augmentation or (AugmentConfig() if variants else None)
        chosen = replace(chosen, cached_variants=variants, augmentation=augmentation)
    elif frames is not None and chosen.cached_variants is None:
        raise UserError(
            f"frames={str(frames)!r}: recipe {name} encodes every question anew; give --variants "
            "too, as many as `omni-data features` made"
        )
    dialogues = read_manifest(manifest)
    typer.echo(f"recipe: {name}, language model: {chosen.language_model}")
    if options.dry_run:
        tell_plan(plan_stage1(dialogues, chosen, **begun), output)
        return
    result = train_stage1(
        dialogues,
        **begun,
        recipe=chosen,
        output=output,
        cache=found_frames(frames, manifest.parent),
        adapter=adapter,
        restart=options.restart,
    )
    tell(result, output / "checkpoint")


def stage2(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="What stage 1 left: DIR/checkpoint.")
    ],
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="What `omni-train units` wrote.")
    ],
    output: Output,
    recipe: Annotated[
        str,
        typer.Option(
            show_default=False,
            help="auto (by the LLM's width), llama-3.2-1b, llama-3.1-8b, qwen, smollm, nano or "
            "mini.",
        ),
    ],
    voice: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A vocoder, such as `omni-train vocoder` left; it joins."),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Stage 1's encoded questions; default: frames/ beside the checkpoint or the "
            "manifest, if it is there.",
        ),
    ] = None,
    upsample: Annotated[int | None, typer.Option(min=1, help="CTC steps per text token.")] = None,
    gate_fusion: Annotated[
        bool | None,
        typer.Option(
            help="The decoder also reads the token that each state predicts (LLaMA-Omni 2); "
            "default: the recipe's.",
        ),
    ] = None,
    spelling: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="LETTERS",
            help="And so many letters of it, which tell the sound of words that no answer had; "
            "0: none; default: the recipe's.",
        ),
    ] = None,
    answers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Learn from so many of them, evenly out of all: the LLM runs over each; 0: all; "
            "default: the recipe's.",
        ),
    ] = None,
    warm_start: Annotated[
        bool,
        typer.Option(
            "--warm-start", help="Begin with the checkpoint's own unit decoder, of its sizes."
        ),
    ] = False,
    *,
    options: TrainingOptions,
) -> None:
    """Stage 2: learn to speak what is written. The model with a voice goes to DIR/checkpoint.

    The extractor beside the manifest says how many units there are, and joins the checkpoint.
    """
    set_up(options.threads)
    from data_tools.manifest import read_manifest
    from omni.files import shipped
    from omni.vocoder import load_vocoder
    from train.commands.choose import choose_stage2
    from train.commands.plan import plan_stage2
    from train.loop import from_first
    from train.stages import train_stage2
    from train.voice import check_voice, join_voice, unit_count

    extractor = manifest.parent / "units"
    if voice is not None:
        load_vocoder(voice)  # now, not after the training
    checkpoint = shipped(str(checkpoint)) or checkpoint
    check_voice(checkpoint, units=extractor, vocoder=voice, warm_start=warm_start)
    name, chosen = choose_stage2(recipe, checkpoint)
    loop = changed(chosen.loop, options)
    # Questions are augmented by the same seed as in stage 1, whose frames are then read again.
    hearing = replace(chosen.hearing, loop=replace(chosen.hearing.loop, seed=loop.seed))
    chosen = replace(
        chosen,
        hearing=hearing,
        loop=loop,
        upsample=upsample or chosen.upsample,
        gate_fusion=chosen.gate_fusion if gate_fusion is None else gate_fusion,
        spelling=chosen.spelling if spelling is None else spelling,
        answers=chosen.answers if answers is None else answers or None,
        units=unit_count(extractor) or chosen.units,
        warm_start=warm_start,
    )
    dialogues = read_manifest(manifest)
    typer.echo(f"recipe: {name}, {chosen.units} units")
    if options.dry_run:
        tell_plan(plan_stage2(checkpoint, dialogues, chosen), output)
        return
    result = train_stage2(
        checkpoint,
        dialogues,
        recipe=chosen,
        output=output,
        frames=found_frames(frames, checkpoint.parent, manifest.parent),
        restart=options.restart,
    )
    from_first(lambda: join_voice(output / "checkpoint", units=extractor, vocoder=voice))
    tell(result, output / "checkpoint")
