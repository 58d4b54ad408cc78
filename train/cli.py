"""The `omni-train` command: bases, units, a voice, the two stages, evaluation.

Every command goes on where it was stopped: run it again with the same arguments.
"""

# Heavy imports stand inside the commands: `omni-train --help` must not wait for torch.
from pathlib import Path
from typing import Annotated

import typer

from omni.command_line import command_line
from omni.errors import UserError, friendly
from omni.optional import need
from train import cli_stages
from train.options import (
    Encoder,
    Epochs,
    ManifestPath,
    MaxSteps,
    Output,
    Threads,
    changed,
    named,
    print_report,
    set_up,
    tell,
)

app = command_line(
    "omni-train",
    "Train the model: bases, units, a voice, the two stages, evaluation. Every command goes "
    "on where it was stopped: run it again with the same arguments. Curves: tensorboard --logdir "
    "OUTPUT/runs",
)


@app.command()
@friendly
def lm(
    manifest: ManifestPath,
    output: Output,
    threads: Threads = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
) -> None:
    """A small Llama and its tokenizer from dialogues as text, into DIR/language_model."""
    set_up(threads)
    from data_tools.manifest import read_manifest
    from train.lm import train_lm
    from train.recipes import nano_bases

    recipe = nano_bases()
    loop = changed(recipe.lm_loop, epochs=epochs, max_steps=max_steps)
    records = read_manifest(manifest).records
    tell(train_lm(records, size=recipe.lm, loop=loop, output=output), output / "language_model")


@app.command()
@friendly
def encoder(
    manifest: ManifestPath,
    output: Output,
    threads: Threads = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
) -> None:
    """A small Whisper encoder from recordings and their text, by CTC, into DIR/encoder."""
    set_up(threads)
    from data_tools.augment import AugmentConfig
    from data_tools.manifest import read_manifest
    from train.encoder import train_encoder, transcribed
    from train.recipes import nano_bases

    recipe = nano_bases()
    dialogues = read_manifest(manifest)
    result = train_encoder(
        transcribed(dialogues, "train"),
        transcribed(dialogues, "validation"),
        architecture=recipe.encoder,
        loop=changed(recipe.encoder_loop, epochs=epochs, max_steps=max_steps),
        output=output,
        clean_epochs=recipe.encoder_clean_epochs,
        augmentation=AugmentConfig(),
    )
    tell(result, output / "encoder")


@app.command()
@friendly
def units(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Dialogues with spoken answers.")
    ],
    speech_encoder: Encoder,
    output: Output,
    clusters: Annotated[
        int | None, typer.Option(min=2, help="How many units; default: the nano's.")
    ] = None,
    layer: Annotated[
        int | None, typer.Option(min=0, help="Of the features; default: the nano's, a low one.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Fit the k-means on the recorded answers, and write the manifests anew with their units.

    DIR/units is the extractor, DIR/MANIFEST the manifest that stage 2 trains on.
    """
    set_up(threads)
    from data_tools.manifest import read_manifest
    from omni.bases import load_speech_encoder
    from omni.units import UnitsConfig
    from train.recipes import nano_units
    from train.voice import make_units

    if len({path.name for path in manifests}) < len(manifests):
        raise UserError("manifests: two have the same file name; rename one")
    need("sklearn", "train", "k-means")  # before the encoder is loaded, perhaps from the hub
    recipe = nano_units()
    config = UnitsConfig(
        kind="speech_encoder",
        name="speech_encoder",  # the checkpoint's own
        layer=recipe.layer if layer is None else layer,
        smooth_frames=recipe.smooth_frames,
    )
    written = make_units(
        {path.name: read_manifest(path) for path in manifests},
        load_speech_encoder(speech_encoder).eval(),
        config,
        clusters=clusters or recipe.clusters,
        output=output,
    )
    for path in written:
        typer.echo(path)


@app.command()
@friendly
def vocoder(
    units_folder: Annotated[
        Path, typer.Argument(metavar="UNITS_DIR", help="What `omni-train units` left.")
    ],
    output: Output,
    kind: Annotated[
        str, typer.Option(help="nsf (light, for CPUs) or hifigan (the published size).")
    ] = "nsf",
    threads: Threads = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
) -> None:
    """A voice: units to waveform, from the labelled answers, into DIR/vocoder."""
    set_up(threads)
    from train.recipes import VOCODER_SIZES, nano_vocoder
    from train.vocoder import train_vocoder
    from train.voice import clips, unit_count

    recipe = nano_vocoder()
    size_of = named(VOCODER_SIZES, kind)
    units = unit_count(units_folder / "units")
    if units is None:
        raise UserError(f"{units_folder}: has no units/; give what `omni-train units` left")
    training, validation = clips(units_folder)
    result = train_vocoder(
        training,
        validation,
        architecture=size_of(units),
        loop=changed(recipe.loop, epochs=epochs, max_steps=max_steps),
        output=output,
    )
    tell(result, output / "vocoder")


cli_stages.register(app)


@app.command()
@friendly
def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A folder or hub id, with or without voice.")
    ],
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="Questions that were not trained on.")
    ],
    output: Output,
    splits: Annotated[
        str, typer.Option(metavar="NAME,NAME,..", help="Each is reported apart.")
    ] = "test_seen,test_unseen",
    chunk_units: Annotated[
        list[str],
        typer.Option(
            metavar="N|N,N,..|all|auto",
            help="Units of speech per chunk; may be repeated, each is reported apart.",
        ),
    ] = ["10", "40", "all"],  # noqa: B006  # read, never changed
    spoken: Annotated[int, typer.Option(min=1, help="Answers per split that are heard.")] = 100,
    timed: Annotated[int, typer.Option(min=1, help="Questions per chunk size timed.")] = 20,
    threads: Threads = None,
) -> None:
    """Ask held-out questions: right answers, words heard in the speech, latency.

    The report goes to DIR/report.json, every single answer to DIR/results.jsonl.
    """
    set_up(threads)
    from data_tools.manifest import read_manifest
    from omni.checkpoint import write_json
    from train.evaluate import Evaluation, EvaluationConfig

    config = EvaluationConfig(
        splits=tuple(splits.split(",")), chunks=tuple(chunk_units), spoken=spoken, timed=timed
    )
    report = Evaluation(checkpoint, read_manifest(manifest), config, output).run()
    write_json(output / "report.json", report)
    print_report(report)
    typer.echo(output / "report.json")


@app.command()
@friendly
def nano(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Its data/ is made by `omni-data nano -o DIR/data`."),
    ],
    part: Annotated[
        str | None,
        typer.Option(
            help="Only this: lm, encoder, units, vocoder, stage1, stage2, checkpoint or evaluation."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Parts at a time; default: 2 where there are 2 cores, no GPU."),
    ] = None,
    threads: Threads = None,
) -> None:
    """The embedded default from its data to a measured checkpoint, part by part.

    Parts that are complete are skipped, so a stopped run goes on where it was. What a part prints
    goes to DIR/logs/PART.txt.
    """
    set_up(threads)
    from train.nano import PARTS, build, build_all, complete

    if part is None:
        build_all(folder, jobs=jobs, threads=threads)
        return
    named(PARTS, part)
    if complete(folder, part):
        typer.echo(f"{part}: is there")
        return
    typer.echo(f"{part}: begins")
    build(folder, part)
    typer.echo(f"{part}: done")


if __name__ == "__main__":
    app()
