"""What the commands of `omni-train` share: their options, and how they begin and end."""

# As in cli.py, heavy imports stand inside the functions.
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from omni.commands import Device, Dtype
from omni.files import UserError

if TYPE_CHECKING:
    from train.commands.plan import Plan
    from train.loop import LoopConfig

T = TypeVar("T")

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
Fsdp = Annotated[
    Path | None,
    typer.Option(metavar="FILE.json", help="Options of torch's fully sharded data parallelism."),
]
Recipe = Annotated[str, typer.Option(help="Sizes and schedule by name.", show_default=False)]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Of weights, order and augmentation; default: 1.")
]
Restart = Annotated[
    bool, typer.Option("--restart", help="Remove what the last run wrote there, and begin anew.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Tell what would be trained, steps and memory; write nothing."),
]
MaybeLanguageModel = Annotated[
    str | None,
    typer.Option(
        "--language-model",
        metavar="FOLDER_OR_HUB_ID",
        help="Any causal LM of transformers, or a GGUF file.",
    ),
]
GoneOnFrom = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        metavar="FOLDER_OR_HUB_ID",
        help="To go on from, instead of two bases: a folder, a hub id, nano or mini.",
    ),
]
Variants = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Encode each question once clean and so many times augmented, and keep that in "
        "--frames; default: the recipe's.",
    ),
]
Frames = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Encoded questions, as `omni-data features` makes them; default: frames/ beside the "
        "manifest, if it is there.",
    ),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Examples that a process takes at once.")
]
Accumulate = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Batches per step. Examples per step: --batch-size x --accumulate x processes.",
    ),
]
LearningRate = Annotated[float | None, typer.Option(min=0, help="Peak; cosine decay to zero.")]
_ENCODER: Any = typer.Option(
    metavar="FOLDER_OR_HUB_ID", help="A Whisper encoder, or openai-whisper's file."
)
Encoder = Annotated[str, _ENCODER]
MaybeEncoder = Annotated[str | None, _ENCODER]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What every command that trains is asked of its loop; None leaves what the recipe says."""

    threads: Threads = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    epochs: Epochs = None
    max_steps: MaxSteps = None
    batch_size: BatchSize = None
    accumulate: Accumulate = None
    learning_rate: LearningRate = None
    deepspeed: Deepspeed = None
    fsdp: Fsdp = None
    seed: Seed = None
    restart: Restart = False
    dry_run: DryRun = False


@dataclass(frozen=True, kw_only=True)
class UnshardedOptions(TrainingOptions):
    """Of what every process can hold whole: how to shard it is not asked."""

    deepspeed: None = field(default=None, init=False)
    fsdp: None = field(default=None, init=False)


def print_report(report: Mapping[str, Any]) -> None:
    """Shows the main numbers of an evaluation as a table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    from train.evaluation import table_head, table_rows

    table = Table(title="Answers to held-out questions", title_justify="left")
    table.add_column("")
    for name in table_head(report):
        table.add_column(name, justify="right")
    for row in table_rows(report):
        table.add_row(*row)
    console = Console()
    console.print(table)
    if report["text_in_right"] is not None:
        by_kind = report["text_in"]["by_kind"]
        kinds = ", ".join(f"{kind} {row['right']:.1%}" for kind, row in by_kind.items())
        console.print(
            f"right answers to the same questions in writing: {report['text_in_right']:.1%}"
            + (f" ({kinds})" if kinds else "")
        )
    judge = report["judge"]
    console.print(f"heard by {judge['name']}; normaliser {judge['normaliser']}")
    for chunks, timing in report.get("timing", {}).items():
        if timing:
            console.print(
                f"chunks of {chunks}: first audio {timing['first_audio_ms_median']:.0f} ms "
                f"(95 %: {timing['first_audio_ms_p95']:.0f}), real-time factor "
                f"{timing['real_time_factor_median']:.2f}"
            )


def set_up(threads: int | None) -> None:
    """Logging and threads of a command; of several processes only the first one prints.

    threads: torch's own, None leaves their number as it is.
    """
    import logging

    import torch
    from transformers.utils import logging as transformers_logging

    from train.loop import main_process

    logging.basicConfig(format="%(message)s")
    first = main_process()
    for package in ("omni", "train", "data_tools"):
        logging.getLogger(package).setLevel(logging.INFO if first else logging.ERROR)
    if not first:  # what all of them do is told once
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # as long as the process
    transformers_logging.set_verbosity_error()
    # CPUs are many times slower on numbers below 1e-38, of which a softmax that has grown sure
    # makes millions. Before torch's first work: its threads begin with what holds then.
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)


def changed(loop: "LoopConfig", options: TrainingOptions) -> "LoopConfig":
    """The recipe's loop with what the user asked for; an impossible device is refused."""
    from omni.devices import choose_device, choose_dtype

    known = {field.name for field in fields(loop)}
    given = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name in known and value is not None
    }
    if "epochs" in given and "max_steps" not in given:
        given["max_steps"] = -1  # else a recipe's own number of steps would decide
    loop = replace(loop, **given)
    device = choose_device(loop.device)
    if loop.dtype != "auto":  # auto may have to time the machine, which is the loop's to do
        choose_dtype(loop.dtype, device)
    return loop


def found_frames(asked: Path | None, *folders: Path) -> Path | None:
    """The folder of encoded questions: the one asked for, else the first frames/ in `folders`."""
    return asked or next((f / "frames" for f in folders if (f / "frames").is_dir()), None)


def tell_plan(plan: "Plan", output: Path) -> None:
    """What `--dry-run` prints instead of training."""
    for line in plan.lines():
        typer.echo(line)
    typer.echo(f"{output}: nothing was trained or written (--dry-run)")


def named(table: Mapping[str, T], name: str) -> T:
    """The entry of that name. Raises UserError, which lists the names, for another one."""
    if name not in table:
        raise UserError(f"recipe={name!r}: must be one of {', '.join(table)}")
    return table[name]


def tell(result: dict[str, float], folder: Path) -> None:
    """What the last validation measured; nothing if nothing was held out."""
    from train.loop import measured, numbers

    told = numbers(measured(result)) or "done; nothing was held out to measure it on"
    typer.echo(f"{folder}: {told}")
