"""`omni-train blocks`: an encoder that looks both ways learns to hear while the user speaks."""

# As in cli.py, heavy imports stand inside the commands.
from dataclasses import replace
from typing import Annotated

import typer

from omni.commands import add_commands
from train.commands.options import (
    ManifestPath,
    Output,
    UnshardedOptions,
    changed,
    set_up,
    tell,
    tell_plan,
)


def register(app: typer.Typer) -> None:
    """Add the command to `omni-train`."""
    add_commands(app, blocks)


def blocks(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="A folder, a hub id or mini: its encoder looks both ways."
        ),
    ],
    manifest: ManifestPath,
    output: Output,
    block_frames: Annotated[
        int | None,
        typer.Option(min=1, help="Encoder frames of 20 ms that hear each other; default: 25."),
    ] = None,
    left_blocks: Annotated[
        int | None,
        typer.Option(min=0, help="Blocks before its own that a frame sees; default: all."),
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Of LoRA; default: 16.")] = None,
    *,
    options: UnshardedOptions,
) -> None:
    """After stage 1: the frozen encoder, with LoRA, learns to hear in blocks while the user speaks.

    It learns from itself, given whole questions: no answers, no texts. The model goes to
    DIR/checkpoint, with its base named as before and the LoRA beside it.
    """
    set_up(options.threads)
    from data_tools.manifest import read_manifest
    from train.commands.plan import plan_blocks
    from train.stages import Lora, blocks_recipe, train_blocks

    recipe = blocks_recipe()
    loop = changed(recipe.loop, options)
    recipe = replace(
        recipe,
        loop=loop,
        block_frames=recipe.block_frames if block_frames is None else block_frames,
        left_blocks=left_blocks,
        lora=recipe.lora if rank is None else Lora(rank=rank, alpha=2 * rank),
    )
    dialogues = read_manifest(manifest)
    if options.dry_run:
        tell_plan(plan_blocks(checkpoint, dialogues, recipe), output)
        return
    result = train_blocks(
        checkpoint, dialogues, recipe=recipe, output=output, restart=options.restart
    )
    tell(result, output / "checkpoint")
