"""The `omni-data` command: make, import and convert spoken dialogues."""

# Heavy imports stand inside the commands: `omni-data --help` must not wait for torch.
from pathlib import Path
from typing import Annotated

import typer

from data_tools.commands import (
    BatchSize,
    MaxTokens,
    Model,
    Source,
    Url,
    WriterDevice,
    WriterDtype,
    chosen_writer,
)
from data_tools.commands import build as cli_build
from data_tools.commands import speech as cli_speech
from data_tools.commands import texts as cli_text
from data_tools.manifest import joined, read_manifest, write_manifest
from omni.commands import command_line
from omni.files import UserError, friendly

app = command_line("omni-data", "Make, import and convert spoken dialogues.")


@app.command()
@friendly
def nano(
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the data set goes.")
    ],
    questions: Annotated[
        int | None, typer.Option(help="Spoken question turns for training. Default: the nano's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the voices.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Default: all cores.")] = None,
) -> None:
    """Speak the nano's questions. Stopped and run again, it goes on where it was."""
    from data_tools.nano import QUESTIONS, build_nano

    made = build_nano(
        folder,
        questions=QUESTIONS if questions is None else questions,
        seed=seed,
        workers=workers,
    )
    for split, count in made.records.items():
        typer.echo(f"{split:<20} {count:6} records {made.hours[split]:6.2f} h of questions")
    for name in ("answers", "reading"):
        typer.echo(f"{name:<20} {made.hours.get(name, 0.0):21.2f} h")
    typer.echo(f"{folder / 'records.jsonl'}: {made.clips} clips, {made.made_clips} of them new")


@app.command()
@friendly
def mini(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the data set goes.")],
    questions: Annotated[
        int | None, typer.Option(help="Spoken turns for training. Default: the mini's.")
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(help="Of domain, open, everyday, refuse, repeat, prose; default: all."),
    ] = None,
    called: Annotated[str, typer.Option(help="The name that the model says.")] = "Mini",
    texts: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Files of the open sets; default: from the hub."),
    ] = None,
    prose: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Sentences to be said back: .txt or WordNet's files, or a folder of them.",
        ),
    ] = None,
    piper: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Neural voices: NAME.onnx and its .json.")
    ] = None,
    writer: Annotated[
        str | None,
        typer.Option(help="Answers what has no answer: transformers, openai; default: later."),
    ] = None,
    model: Model = None,
    url: Url = None,
    max_tokens: MaxTokens = 48,
    batch_size: BatchSize = None,
    device: WriterDevice = None,
    dtype: WriterDtype = None,
    questions_only: Annotated[
        bool,
        typer.Option("--questions-only", help="Answers as texts, which is all that stage 1 needs."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Chooses texts and voices.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Default: all cores.")] = None,
) -> None:
    """Speak the mini's sentences. Stopped and run again, it goes on where it was."""
    from data_tools.mini import QUESTIONS, build_mini

    config = None
    if writer is not None:
        config = chosen_writer(
            writer, model=model, url=url, max_tokens=max_tokens, batch_size=batch_size,
            temperature=0.0, device=device, dtype=dtype,
        )  # fmt: skip
    made = build_mini(
        folder,
        questions=QUESTIONS if questions is None else questions,
        kinds=kinds,
        called=called,
        texts=texts,
        prose=prose,
        piper=piper,
        writer=config,
        speak_answers=not questions_only,
        seed=seed,
        workers=workers,
    )
    for split, counts in made.records.items():
        told = ", ".join(f"{kind} {count}" for kind, count in counts.items())
        total = sum(counts.values())
        typer.echo(f"{split:<14} {total:6} records {made.hours[split]:6.2f} h  ({told})")
    for name in ("answers", "reading"):
        typer.echo(f"{name:<14} {made.hours.get(name, 0.0):21.2f} h")
    if made.unanswered:
        typer.echo(f"{made.unanswered} records have no answer and are to be repeated; see --writer")
    typer.echo(f"{folder / 'records.jsonl'}: {made.clips} clips, {made.made_clips} of them new")


@app.command()
@friendly
def convert(
    source: Source,
    out: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="MANIFEST", help="Ends in .parquet or .jsonl."),
    ],
    embed_audio: Annotated[
        bool,
        typer.Option(help="Carry the recordings in the .parquet, to lie anywhere."),
    ] = False,
) -> None:
    """Write a manifest in the other format, into the same folder."""

    if not embed_audio and out.parent.resolve() != source.parent.resolve():
        raise UserError(
            f"{out}: audio paths start from the manifest's folder; write it into {source.parent}"
        )
    manifest = read_manifest(source)
    write_manifest(out, manifest.records, embed_audio=embed_audio, audio_root=manifest.root)
    typer.echo(f"{out}: {len(manifest.records)} records")


@app.command()
@friendly
def join(
    sources: Annotated[list[Path], typer.Argument(metavar="MANIFEST...")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="MANIFEST")],
    rename: Annotated[
        bool, typer.Option(help="An id that is taken gets its manifest's number behind it.")
    ] = False,
) -> None:
    """Write several manifests as one, which finds their recordings from where it lies."""
    manifests = [(source, read_manifest(source)) for source in sources]
    records = joined(manifests, out.parent, rename=rename)
    write_manifest(out, records)
    typer.echo(f"{out}: {len(records)} records of {len(sources)} manifests")


cli_text.register(app)
cli_speech.register(app)
cli_build.register(app)

if __name__ == "__main__":
    app()
