"""What the commands of `omni-train` share: their options, and how they begin and end."""

# As in cli.py, heavy imports stand inside the functions.
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni.errors import UserError

if TYPE_CHECKING:
    from train.loop import LoopConfig

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


def print_report(report: dict) -> None:
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


def set_up(threads: int | None) -> None:
    import logging

    import torch
    from transformers.utils import logging as transformers_logging

    logging.basicConfig(format="%(message)s")
    transformers_logging.set_verbosity_error()
    if threads is not None:
        torch.set_num_threads(threads)


def changed(loop: "LoopConfig", **options: float | str | None) -> "LoopConfig":
    """The recipe's loop with what the user asked for."""
    return replace(loop, **{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]


def named(table: dict, name: str):
    if name not in table:
        raise UserError(f"recipe={name!r}: must be one of {', '.join(table)}")
    return table[name]


def tell(result: dict[str, float], folder: Path) -> None:
    """What the last validation measured; nothing if nothing was held out."""
    shown = {
        name.removeprefix("eval_"): value
        for name, value in result.items()
        if not name.endswith(("runtime", "_per_second")) and name != "epoch"
    }
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
    typer.echo(f"{folder}: {numbers or 'done; nothing was held out to measure it on'}")
