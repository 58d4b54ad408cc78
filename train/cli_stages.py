"""`omni-train stage1` and `omni-train stage2`: the two stages of the paper, on any bases."""

# As in cli.py, heavy imports stand inside the commands.
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from omni.errors import friendly
from train.options import (
    BatchSize,
    Deepspeed,
    Encoder,
    Epochs,
    LearningRate,
    ManifestPath,
    MaxSteps,
    Output,
    Threads,
    changed,
    named,
    set_up,
    tell,
)


def register(app: typer.Typer) -> None:
    """Add both commands to `omni-train`."""
    for command in (stage1, stage2):
        app.command()(friendly(command))


def stage1(
    manifest: ManifestPath,
    speech_encoder: Encoder,
    language_model: Annotated[
        str, typer.Option(metavar="FOLDER_OR_HUB_ID", help="Any causal LM of transformers.")
    ],
    output: Output,
    recipe: Annotated[str, typer.Option(help="nano, published or lora.")] = "nano",
    threads: Threads = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    text_share: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Share of questions put in writing.")
    ] = None,
    deepspeed: Deepspeed = None,
) -> None:
    """Stage 1: learn to answer what is heard. The model goes to DIR/checkpoint."""
    set_up(threads)
    from data_tools.manifest import read_manifest
    from train.recipes import STAGE1
    from train.stage1 import train_stage1

    chosen = named(STAGE1, recipe)()
    loop = changed(
        chosen.loop, epochs=epochs, max_steps=max_steps, batch_size=batch_size,
        learning_rate=learning_rate, deepspeed=None if deepspeed is None else str(deepspeed),
    )  # fmt: skip
    text_share = chosen.text_share if text_share is None else text_share
    chosen = replace(chosen, loop=loop, text_share=text_share)
    result = train_stage1(
        read_manifest(manifest),
        speech_encoder=speech_encoder,
        language_model=language_model,
        recipe=chosen,
        output=output,
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
        str, typer.Option(help="nano, llama-3.2-1b, llama-3.1-8b, qwen or smollm.")
    ] = "nano",
    voice: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A vocoder, such as `omni-train vocoder` left; it joins."),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Stage 1's encoded questions, if it kept them."),
    ] = None,
    upsample: Annotated[int | None, typer.Option(min=1, help="CTC steps per text token.")] = None,
    threads: Threads = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    deepspeed: Deepspeed = None,
) -> None:
    """Stage 2: learn to speak what is written. The model with a voice goes to DIR/checkpoint.

    The extractor beside the manifest says how many units there are, and joins the checkpoint.
    """
    set_up(threads)
    from data_tools.manifest import read_manifest
    from omni.vocoder import load_vocoder
    from train.recipes import STAGE2
    from train.stage2 import train_stage2
    from train.voice import join_voice, unit_count

    extractor = manifest.parent / "units"
    if voice is not None:
        load_vocoder(voice)  # now, not after the training
    chosen = named(STAGE2, recipe)()
    loop = changed(
        chosen.loop, epochs=epochs, max_steps=max_steps, batch_size=batch_size,
        learning_rate=learning_rate, deepspeed=None if deepspeed is None else str(deepspeed),
    )  # fmt: skip
    chosen = replace(
        chosen,
        loop=loop,
        upsample=upsample or chosen.upsample,
        units=unit_count(extractor) or chosen.units,
    )
    result = train_stage2(
        checkpoint, read_manifest(manifest), recipe=chosen, output=output, frames=frames
    )
    join_voice(output / "checkpoint", units=extractor, vocoder=voice)
    tell(result, output / "checkpoint")
