"""The text half of `omni-data`: import, rewrite, respond."""

# Heavy imports stand inside the commands: `omni-data --help` must not wait for torch.
from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_tools.commands.speech import ExecutorName, MaxLeftOut, Out, RayAddress, Source, run
from omni.commands import DEVICE_HELP, DTYPE_NAMES, add_commands
from omni.files import friendly

if TYPE_CHECKING:
    from data_tools.manifest import Record
    from data_tools.writers import WriterConfig

SHOWN = 5  # bad rows named on the terminal

WriterKind = Annotated[str, typer.Option(help="rules, openai (a server), transformers (a model).")]
Model = Annotated[str | None, typer.Option(help="For openai and transformers.")]
Url = Annotated[str | None, typer.Option(help="For openai: the server, up to /v1.")]
Prompt = Annotated[
    Path | None, typer.Option(help="Text file with {instruction}; default: the built-in one.")
]
MaxWords = Annotated[int | None, typer.Option(min=1, help="Most words of a turn.")]
Temperature = Annotated[float | None, typer.Option(min=0, help="For openai and transformers.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="For openai and transformers.")]
Concurrency = Annotated[int | None, typer.Option(min=1, help="For openai: calls in flight.")]
PerMinute = Annotated[float | None, typer.Option(help="For openai: calls per minute.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="For transformers: chats at a time.")]
WriterDevice = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"For transformers: {DEVICE_HELP}")
]
WriterDtype = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"For transformers: {DTYPE_NAMES}.")
]
Seed = Annotated[int | None, typer.Option(help="For rules: chooses what is drawn.")]


@dataclass(frozen=True, kw_only=True)
class WriterOptions:
    """Who writes, and how; None leaves what is the writer's or the step's own."""

    writer: WriterKind = "rules"
    model: Model = None
    url: Url = None
    prompt: Prompt = None
    max_words: MaxWords = None
    temperature: Temperature = None
    max_tokens: MaxTokens = None
    concurrency: Concurrency = None
    requests_per_minute: PerMinute = None
    batch_size: BatchSize = None
    device: WriterDevice = None
    dtype: WriterDtype = None

    def chosen(self, *, seed: int | None = None) -> WriterConfig:
        """The writer that is asked for."""
        not_its_own = ("writer", "prompt", "max_words")
        options = {name: value for name, value in vars(self).items() if name not in not_its_own}
        return chosen_writer(self.writer, **options, seed=seed)

    def wishes(self) -> dict[str, Any]:
        """What the step is asked for, whoever writes."""
        from data_tools.writers import read_prompt

        return present(prompt=self.prompt and read_prompt(self.prompt), max_words=self.max_words)


def register(app: typer.Typer) -> None:
    """Adds the commands of this file to `omni-data`."""
    app.command("import")(friendly(import_))
    add_commands(app, rewrite, respond)


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A .json, .jsonl, .csv, .tsv or .parquet file, a folder of recordings or of "
            "`datasets`, or hub:OWNER/NAME.",
        ),
    ],
    out: Out,
    format: Annotated[str, typer.Option(help="Default: by the fields of the first row.")] = "auto",
    language: Annotated[str, typer.Option(help="Language code of the texts.")] = "en",
    split: Annotated[str, typer.Option(help="Split of the records.")] = "train",
    validation: Annotated[
        float, typer.Option(help="Share of the questions to hold out as split validation.")
    ] = 0.0,
    licence: Annotated[str | None, typer.Option(help="Licence of the data, kept with it.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows to read.")] = None,
    max_turns: Annotated[
        int | None, typer.Option(min=1, help="Questions kept per dialogue.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option(help="Leave out rows that break a rule.")] = False,
    repeat: Annotated[
        bool, typer.Option(help="What is said is to be said back: of `omni-train evaluate`.")
    ] = False,
    hub_config: Annotated[str | None, typer.Option(help="Of a hub data set.")] = None,
    hub_split: Annotated[str, typer.Option(help="Of a hub data set.")] = "train",
    embed_audio: Annotated[bool, typer.Option(help="Carry recordings in the .parquet.")] = False,
) -> None:
    """Write a manifest of a text instruction set, or of recordings."""
    from data_tools.manifest import write_manifest
    from data_tools.sources import ImportConfig, counts, import_records

    found = import_records(
        source,
        ImportConfig(
            format=format,
            language=language,
            split=split,
            validation=validation,
            licence=licence,
            limit=limit,
            max_turns=max_turns,
            skip_bad=skip_bad,
            repeat=repeat,
            hub_config=hub_config,
            hub_split=hub_split,
            audio_folder=out.with_name(f"{out.stem}.audio"),
        ),
    )
    records = [beside(record, out.parent) for record in found.records]
    write_manifest(out, records, embed_audio=embed_audio)
    for bad in found.bad[:SHOWN]:
        typer.echo(f"left out: {bad}", err=True)
    notes = [f"{len(found.bad)} bad rows left out"] if found.bad else []
    notes += [f"{found.repeated} repeated rows"] if found.repeated else []
    told = ", ".join([f"{out}: {len(records)} records", *notes])
    typer.echo(f"{told}; {counts(records)}")


def beside(record: Record, folder: Path) -> Record:
    """With relative paths for recordings that lie in or under the manifest's folder."""
    root = str(folder.resolve()) + os.sep
    turns = tuple(
        replace(turn, speech=turn.speech.removeprefix(root)) if turn.speech else turn
        for turn in record.turns
    )
    return replace(record, turns=turns)


def rewrite(
    source: Source,
    out: Out,
    *,
    by: WriterOptions,
    seed: Seed = None,
    max_left_out: MaxLeftOut = 0.05,
    executor: ExecutorName = "local",
    ray_address: RayAddress = None,
) -> None:
    """Reword every written question as someone would ask it aloud."""
    from data_tools.writers import RewriteStep

    step = RewriteStep(writer=by.chosen(seed=seed), **by.wishes())
    run(source, out, step, (executor, ray_address), max_left_out=max_left_out)


def respond(
    source: Source,
    out: Out,
    *,
    by: WriterOptions,
    max_left_out: MaxLeftOut = 0.05,
    executor: ExecutorName = "local",
    ray_address: RayAddress = None,
) -> None:
    """Answer every question concisely, in words that a synthesiser can say."""
    from data_tools.writers import RespondStep

    step = RespondStep(writer=by.chosen(), **by.wishes())
    run(source, out, step, (executor, ray_address), max_left_out=max_left_out)


def chosen_writer(kind: str, **options: Any) -> WriterConfig:
    """The writer that a command's options ask for; those that are None were not given."""
    from data_tools.writers import writer_config

    return writer_config(kind, **present(**options))


def present(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
