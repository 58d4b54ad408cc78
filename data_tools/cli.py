"""The `omni-data` command: make, import and convert spoken dialogues."""

# Heavy imports stand inside the commands: `omni-data --help` must not wait for torch.
from pathlib import Path
from typing import Annotated

import typer

from data_tools.commands import Source
from data_tools.commands import build as cli_build
from data_tools.commands import speech as cli_speech
from data_tools.commands import texts as cli_text
from data_tools.manifest import read_manifest, write_manifest
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
    """Speak the nano's dialogues. Stopped and run again, it goes on where it was."""
    from data_tools.nano import QUESTIONS, build_nano
    from data_tools.nano.domain import dialogues

    made = build_nano(
        folder,
        dialogues(),
        questions=QUESTIONS if questions is None else questions,
        seed=seed,
        workers=workers,
    )
    for split, count in made.records.items():
        typer.echo(f"{split:<12} {count:6} records {made.hours[split]:6.2f} h of questions")
    for name in ("answers", "reading"):
        typer.echo(f"{name:<12} {made.hours[name]:21.2f} h")
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


cli_text.register(app)
cli_speech.register(app)
cli_build.register(app)

if __name__ == "__main__":
    app()
