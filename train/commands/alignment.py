"""`omni-train align`: the speech adapter before stage 1, without running the LLM."""

# As in cli.py, heavy imports stand inside the commands.
from dataclasses import replace
from typing import Annotated

import typer

from omni.commands import add_commands
from train.commands.options import (
    Frames,
    GoneOnFrom,
    ManifestPath,
    MaybeEncoder,
    MaybeLanguageModel,
    Output,
    UnshardedOptions,
    Variants,
    changed,
    found_frames,
    set_up,
    tell,
    tell_plan,
)


def register(app: typer.Typer) -> None:
    """Add the command to `omni-train`."""
    add_commands(app, align)


def align(
    manifest: ManifestPath,
    output: Output,
    speech_encoder: MaybeEncoder = None,
    language_model: MaybeLanguageModel = None,
    checkpoint: GoneOnFrom = None,
    recipe: Annotated[str, typer.Option(help="Of stage 1, whose adapter it is.")] = "auto",
    token_mixture: Annotated[
        bool,
        typer.Option(help="The LLM will read mixtures of its own token embeddings."),
    ] = True,
    variants: Variants = None,
    frames: Frames = None,
    *,
    options: UnshardedOptions,
) -> None:
    """Before stage 1: the adapter learns to say the question in the LLM's own token embeddings.

    The LLM does not run, so it is cheap. The adapter goes to DIR/speech_adapter, for `stage1
    --adapter`. With --checkpoint the adapter there is aligned further, on whatever is given.
    """
    set_up(options.threads)
    from data_tools.manifest import read_manifest
    from data_tools.speech import AugmentConfig
    from train.commands.choose import choose_stage1
    from train.commands.plan import beginning_config, plan_align
    from train.stages import align_recipe, train_align

    begun = {
        "speech_encoder": speech_encoder,
        "language_model": language_model,
        "checkpoint": checkpoint,
    }
    name, hearing = choose_stage1(recipe, lambda: beginning_config(**begun).text_config)
    if variants is not None:
        augmentation = hearing.augmentation or (AugmentConfig() if variants else None)
        hearing = replace(hearing, cached_variants=variants, augmentation=augmentation)
    chosen = align_recipe(hearing)
    loop = changed(chosen.loop, options)
    # Questions are encoded, and augmented, as stage 1 with the same seed does it.
    hearing = replace(hearing, loop=replace(hearing.loop, seed=loop.seed, device=loop.device))
    chosen = replace(chosen, hearing=hearing, loop=loop, token_mixture=token_mixture)
    dialogues = read_manifest(manifest)
    typer.echo(f"recipe: {name}'s adapter")
    if options.dry_run:
        tell_plan(plan_align(dialogues, chosen, **begun), output)
        return
    result = train_align(
        dialogues,
        **begun,
        recipe=chosen,
        output=output,
        cache=found_frames(frames, manifest.parent),
        restart=options.restart,
    )
    tell(result, output / "speech_adapter")
