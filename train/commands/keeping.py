"""`omni-train kept`: what the base LLM knew before training, and still knows."""

# As in cli.py, heavy imports stand inside the command.
from pathlib import Path
from typing import Annotated

import typer

from omni.commands import Device, StoredDtype, add_commands
from train.commands.options import Threads, set_up


def register(app: typer.Typer) -> None:
    """Add the command to `omni-train`."""
    add_commands(app, kept)


def kept(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A folder or hub id, with LoRA weights.")
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help='Lines of {"prompt", "accept": [words]} or {"prompt", "refuse": true}; default: '
            "the 200 that come with the package.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.json", help="Every answer.")
    ] = None,
    threads: Threads = None,
    device: Device = "auto",
    dtype: StoredDtype = None,
) -> None:
    """Ask in writing what the base LLM knew and refused, with and without what was trained."""
    set_up(threads)
    from omni.commands import start
    from omni.files import write_json
    from train.evaluation import measure_kept, read_prompts

    asked = read_prompts(prompts) if prompts else read_prompts()
    model, processor = start(checkpoint, device=device, dtype=dtype, adapter_apart=True)
    report = measure_kept(model, processor, asked)
    for name in ("knew", "refused", "all"):
        share = report[name]
        if share["prompts"]:
            typer.echo(
                f"{name:8} {share['prompts']:>4} prompts: base {share['base']:.1%}, now "
                f"{share['model']:.1%}"
            )
    if output is not None:
        write_json(output, report)
        typer.echo(output)
