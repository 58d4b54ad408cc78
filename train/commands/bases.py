"""`omni-train lm`, `encoder` and `vocoder`: the parts that who has published ones need not make."""

# As in cli.py, heavy imports stand inside the commands.
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from omni.commands import add_commands
from omni.files import UserError
from train.commands.options import (
    ManifestPath,
    Output,
    Recipe,
    TrainingOptions,
    changed,
    named,
    set_up,
    tell,
    tell_plan,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Sized = TypeVar("Sized", bound="DataclassInstance")
Width = Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")]
Layers = Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")]
Heads = Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")]
Ffn = Annotated[int | None, typer.Option(min=1, help="Inner width; default: the recipe's.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `omni-train`."""
    add_commands(app, lm, encoder, vocoder)


def lm(
    manifest: ManifestPath,
    output: Output,
    recipe: Recipe,
    vocabulary: Annotated[int | None, typer.Option(min=300, help="Default: the recipe's.")] = None,
    width: Width = None,
    layers: Layers = None,
    heads: Heads = None,
    ffn: Ffn = None,
    *,
    options: TrainingOptions,
) -> None:
    """A small Llama and its tokenizer from dialogues as text, into DIR/language_model.

    Recipes: nano. The sizes can be changed one by one.
    """
    set_up(options.threads)
    from data_tools.manifest import read_manifest
    from train.bases import train_lm
    from train.commands.plan import plan_lm
    from train.stages import BASES

    chosen = named(BASES, recipe)()
    size = resized(
        chosen.lm, vocabulary=vocabulary, width=width, layers=layers, heads=heads, ffn=ffn
    )
    loop = changed(chosen.lm_loop, options)
    dialogues = read_manifest(manifest)
    if options.dry_run:
        tell_plan(plan_lm(dialogues, size, loop), output)
        return
    result = train_lm(
        dialogues,
        size=size,
        loop=loop,
        word_dropout=chosen.lm_word_dropout,
        output=output,
        restart=options.restart,
    )
    tell(result, output / "language_model")


def encoder(
    manifest: ManifestPath,
    output: Output,
    recipe: Recipe,
    n_mels: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")] = None,
    width: Width = None,
    layers: Layers = None,
    heads: Heads = None,
    ffn: Ffn = None,
    *,
    options: TrainingOptions,
) -> None:
    """A small Whisper encoder from recordings and their text, by CTC, into DIR/encoder.

    Recipes: nano. The sizes can be changed one by one.
    """
    set_up(options.threads)
    from data_tools.manifest import read_manifest
    from data_tools.speech import AugmentConfig
    from train.bases import train_encoder, transcribed
    from train.commands.plan import plan_encoder
    from train.stages import BASES

    chosen = named(BASES, recipe)()
    architecture = resized(
        chosen.encoder, n_mels=n_mels, width=width, layers=layers, heads=heads, ffn=ffn
    )
    loop = changed(chosen.encoder_loop, options)
    dialogues = read_manifest(manifest)
    training, validation = (transcribed(dialogues, s) for s in ("train", "validation"))
    if options.dry_run:
        tell_plan(plan_encoder(training, validation, architecture, loop), output)
        return
    result = train_encoder(
        training,
        validation,
        architecture=architecture,
        loop=loop,
        output=output,
        clean_epochs=chosen.encoder_clean_epochs,
        augmentation=AugmentConfig(),
        restart=options.restart,
    )
    tell(result, output / "encoder")


def vocoder(
    units_folder: Annotated[
        Path, typer.Argument(metavar="UNITS_DIR", help="What `omni-train units` left.")
    ],
    output: Output,
    recipe: Recipe,
    vocoder: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Begin with this one, of its own sizes: a vocoder of the same units, or a "
            "checkpoint that carries one.",
        ),
    ] = None,
    discriminators: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="CHANNELS",
            help="Train against discriminators as wide as this (1024 as published, 128 is the "
            "least); 0: by reconstruction alone; default: the recipe's.",
        ),
    ] = None,
    *,
    options: TrainingOptions,
) -> None:
    """A voice: units to waveform, from the labelled answers, into DIR/vocoder.

    Recipes: nsf (light, for CPUs, by reconstruction alone) and hifigan (the published size, against
    discriminators). Answers of the manifest's split validation are what it is measured on.
    """
    set_up(options.threads)
    from train.commands.plan import plan_vocoder
    from train.stages import VOCODER
    from train.voice import DiscriminatorConfig, clips, load_beginning, train_vocoder, unit_count

    make = named(VOCODER, recipe)
    units = unit_count(units_folder / "units")
    if units is None:
        raise UserError(f"{units_folder}: has no units/; give what `omni-train units` left")
    chosen = make(units)
    beginning = None if vocoder is None else load_beginning(vocoder, units_folder / "units")
    if beginning is not None:
        chosen = replace(chosen, architecture=beginning.config)
    if discriminators is not None:
        against = DiscriminatorConfig(channels=discriminators) if discriminators else None
        chosen = replace(chosen, discriminators=against)
    chosen = replace(chosen, loop=changed(chosen.loop, options))
    training, validation = clips(units_folder)
    if options.dry_run:
        tell_plan(plan_vocoder(training, validation, chosen), output)
        return
    result = train_vocoder(
        training,
        validation,
        architecture=chosen.architecture,
        loop=chosen.loop,
        output=output,
        discriminators=chosen.discriminators,
        begin_with=beginning,
        restart=options.restart,
    )
    tell(result, output / "vocoder")


def resized(recipe: Sized, **sizes: int | None) -> Sized:
    """The recipe's sizes with those that the user gave."""
    return replace(recipe, **{name: size for name, size in sizes.items() if size is not None})
