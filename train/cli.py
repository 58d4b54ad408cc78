"""The `omni-train` command: bases, units, a voice, the two stages, evaluation.

Every command goes on where it was stopped: run it again with the same arguments.
"""

# Heavy imports stand inside the commands: `omni-train --help` must not wait for torch.
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni.errors import UserError, friendly

if TYPE_CHECKING:
    from train.loop import LoopConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Train the model: bases, units, a voice, the two stages, evaluation. Every command goes "
    "on where it was stopped: run it again with the same arguments. Curves: tensorboard --logdir "
    "OUTPUT/runs",
)

ManifestPath = Annotated[
    Path, typer.Argument(metavar="MANIFEST", help="Dialogues: a .jsonl or .parquet file.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Where everything of this run goes.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: torch's choice.")]
Epochs = Annotated[float | None, typer.Option(min=0, help="Passes over the data.")]
MaxSteps = Annotated[int | None, typer.Option(min=1, help="Stop after so many steps, for a try.")]
Deepspeed = Annotated[
    Path | None, typer.Option(metavar="FILE.json", help="A DeepSpeed configuration.")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Examples per step and device.")]
LearningRate = Annotated[float | None, typer.Option(min=0, help="Peak; cosine decay to zero.")]
Encoder = Annotated[
    str,
    typer.Option(metavar="FOLDER_OR_HUB_ID", help="A Whisper encoder, or openai-whisper's file."),
]


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
    _set_up(threads)
    from data_tools.manifest import read_manifest
    from train.lm import train_lm
    from train.recipes import nano_bases

    recipe = nano_bases()
    loop = _changed(recipe.lm_loop, epochs=epochs, max_steps=max_steps)
    records = read_manifest(manifest).records
    _tell(train_lm(records, size=recipe.lm, loop=loop, output=output), output / "language_model")


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
    _set_up(threads)
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
        loop=_changed(recipe.encoder_loop, epochs=epochs, max_steps=max_steps),
        output=output,
        clean_epochs=recipe.encoder_clean_epochs,
        augmentation=AugmentConfig(),
    )
    _tell(result, output / "encoder")


@app.command()
@friendly
def units(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Dialogues with spoken answers.")
    ],
    speech_encoder: Encoder,
    output: Output,
    clusters: Annotated[int | None, typer.Option(min=2, help="How many units.")] = None,
    layer: Annotated[int | None, typer.Option(min=0, help="Features after this layer.")] = None,
    threads: Threads = None,
) -> None:
    """Fit the k-means on the recorded answers, and write the manifests anew with their units.

    DIR/units is the extractor, DIR/MANIFEST the manifest that stage 2 trains on.
    """
    _set_up(threads)
    from data_tools.manifest import read_manifest
    from omni.bases import load_speech_encoder
    from omni.units import UnitsConfig
    from train.recipes import nano_units
    from train.voice import make_units

    if len({path.name for path in manifests}) < len(manifests):
        raise UserError("manifests: two have the same file name; rename one")
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
    threads: Threads = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
) -> None:
    """A voice: units to waveform, from the labelled answers, into DIR/vocoder."""
    _set_up(threads)
    from train.recipes import nano_vocoder
    from train.vocoder import train_vocoder
    from train.voice import clips

    recipe = nano_vocoder()
    training, validation = clips(units_folder)
    result = train_vocoder(
        training,
        validation,
        architecture=recipe.architecture,
        loop=_changed(recipe.loop, epochs=epochs, max_steps=max_steps),
        output=output,
    )
    _tell(result, output / "vocoder")


@app.command()
@friendly
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
    _set_up(threads)
    from data_tools.manifest import read_manifest
    from train.recipes import STAGE1
    from train.stage1 import train_stage1

    chosen = _named(STAGE1, recipe)()
    loop = _changed(
        chosen.loop, epochs=epochs, max_steps=max_steps, batch_size=batch_size,
        learning_rate=learning_rate, deepspeed=None if deepspeed is None else str(deepspeed),
    )  # fmt: skip
    chosen = replace(chosen, loop=loop)
    if text_share is not None:
        chosen = replace(chosen, text_share=text_share)
    result = train_stage1(
        read_manifest(manifest),
        speech_encoder=speech_encoder,
        language_model=language_model,
        recipe=chosen,
        output=output,
    )
    _tell(result, output / "checkpoint")


@app.command()
@friendly
def stage2(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="What stage 1 left: DIR/checkpoint.")
    ],
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="What `omni-train units` wrote.")
    ],
    output: Output,
    recipe: Annotated[str, typer.Option(help="nano, llama-3.2-1b or llama-3.1-8b.")] = "nano",
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
    """Stage 2: learn to speak what is written. The model with a voice goes to DIR/checkpoint."""
    _set_up(threads)
    from data_tools.manifest import read_manifest
    from train.recipes import STAGE2
    from train.stage2 import train_stage2

    chosen = _named(STAGE2, recipe)()
    loop = _changed(
        chosen.loop, epochs=epochs, max_steps=max_steps, batch_size=batch_size,
        learning_rate=learning_rate, deepspeed=None if deepspeed is None else str(deepspeed),
    )  # fmt: skip
    chosen = replace(chosen, loop=loop, upsample=upsample or chosen.upsample)
    result = train_stage2(
        checkpoint, read_manifest(manifest), recipe=chosen, output=output, frames=frames
    )
    _tell(result, output / "checkpoint")


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
        str,
        typer.Option(metavar="N,N,..", help="Units per chunk; 'all' vocodes whole answers."),
    ] = "10,40,all",
    spoken: Annotated[int, typer.Option(min=1, help="Answers per split that are heard.")] = 100,
    timed: Annotated[int, typer.Option(min=1, help="Questions per chunk size timed.")] = 20,
    threads: Threads = None,
) -> None:
    """Ask held-out questions: right answers, words heard in the speech, latency.

    The report goes to DIR/report.json, every single answer to DIR/results.jsonl.
    """
    _set_up(threads)
    from data_tools.manifest import read_manifest
    from omni.checkpoint import write_json
    from train.evaluate import Evaluation, EvaluationConfig

    config = EvaluationConfig(
        splits=tuple(splits.split(",")),
        chunks=tuple(chunk_units.split(",")),
        spoken=spoken,
        timed=timed,
    )
    report = Evaluation(checkpoint, read_manifest(manifest), config, output).run()
    write_json(output / "report.json", report)
    _print_report(report)
    typer.echo(output / "report.json")


@app.command()
@friendly
def nano(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Its data/ is made by `omni-data nano DIR/data`."),
    ],
    part: Annotated[
        str | None,
        typer.Option(
            help="Only this: lm, encoder, units, vocoder, stage1, stage2, checkpoint or evaluation."
        ),
    ] = None,
    threads: Threads = None,
) -> None:
    """The embedded default from its data to a measured checkpoint, part by part.

    Parts that are complete are skipped, so a stopped run goes on where it was.
    """
    _set_up(threads)
    from train.nano import PARTS, build, complete

    if part is not None:
        _named(PARTS, part)
    for name in PARTS if part is None else [part]:
        if complete(folder, name):
            typer.echo(f"{name}: is there")
            continue
        typer.echo(f"{name}: begins")
        build(folder, name)
        typer.echo(f"{name}: done")


def _print_report(report: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    from train.report import table_rows

    table = Table(title="Answers to held-out questions", title_justify="left")
    table.add_column("")
    for split in report["splits"]:
        table.add_column(split, justify="right")
    for row in table_rows(report):
        table.add_row(*row)
    console = Console()
    console.print(table)
    if report["text_in_right"] is not None:
        console.print(
            f"right answers to the same questions in writing: {report['text_in_right']:.1%}"
        )
    for chunks, timing in report.get("timing", {}).items():
        if timing:
            console.print(
                f"chunks of {chunks}: first audio {timing['first_audio_ms_median']:.0f} ms "
                f"(95 %: {timing['first_audio_ms_p95']:.0f}), real-time factor "
                f"{timing['real_time_factor_median']:.2f}"
            )


def _set_up(threads: int | None) -> None:
    import logging

    import torch
    from transformers.utils import logging as transformers_logging

    logging.basicConfig(format="%(message)s")
    transformers_logging.set_verbosity_error()
    if threads is not None:
        torch.set_num_threads(threads)


def _changed(loop: "LoopConfig", **options: float | str | None) -> "LoopConfig":
    """The recipe's loop with what the user asked for."""
    return replace(loop, **{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]


def _named(table: dict, name: str):
    if name not in table:
        raise UserError(f"recipe={name!r}: must be one of {', '.join(table)}")
    return table[name]


def _tell(result: dict[str, float], folder: Path) -> None:
    shown = {
        name.removeprefix("eval_"): value
        for name, value in result.items()
        if not name.endswith(("runtime", "_per_second")) and name != "epoch"
    }
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
    typer.echo(f"{folder}: {numbers or 'done'}")


if __name__ == "__main__":
    app()
