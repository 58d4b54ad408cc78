"""The last part of `omni-data`: build, the whole way, and check."""

# Heavy imports stand inside the commands: `omni-data --help` must not wait for torch.
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_tools.commands.speech import ExecutorName, RayAddress, Source
from omni.commands import add_commands

if TYPE_CHECKING:
    from data_tools.check import Check, CheckConfig
    from data_tools.manifest import Manifest
    from data_tools.steps import Executor

UNFIT = 1  # exit code of `check`; 2 is bad input


def register(app: typer.Typer) -> None:
    """Adds the commands of this file to `omni-data`."""
    add_commands(app, build, check)


def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="See docs/data.md.")],
    executor: ExecutorName = "local",
    ray_address: RayAddress = None,
) -> None:
    """Go the whole way of a recipe. Stopped and run again, it goes on where it was."""
    from data_tools.build import build as build_data_set
    from data_tools.build import check_config, read_recipe
    from data_tools.manifest import read_manifest
    from data_tools.steps import executor_of

    runner = executor_of(executor, ray_address)
    options = read_recipe(recipe).check
    checking = None if options is None else check_config(options)  # now, not after the work
    built = build_data_set(recipe, runner)
    for step, made in built.made.items():
        left_out = len(built.left_out.get(step, {}))
        typer.echo(f"{step:<14} {made:8} new" + (f", {left_out} left out" if left_out else ""))
    typer.echo(f"{built.manifest}: {built.records} records; {built.splits}")
    if checking is not None:
        config, count_tokens = checking
        folder = built.manifest.parent
        finish(read_manifest(built.manifest), config, count_tokens, folder, runner)


def check(
    source: Source,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of report.json and report.html."
        ),
    ] = None,
    upsample: Annotated[int, typer.Option(min=1, help="Of the unit decoder.")] = 25,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Of the language model, to count tokens; default: a lower bound."),
    ] = None,
    tolerated: Annotated[
        float, typer.Option(min=0, max=1, help="Share of records that may break a limit.")
    ] = 0.01,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Listen to so many recordings; default: all.")
    ] = None,
    executor: ExecutorName = "local",
    ray_address: RayAddress = None,
) -> None:
    """Say whether a data set is fit to train on: exit code 0 if it is, 1 if not."""
    from data_tools.build import check_config
    from data_tools.manifest import read_manifest
    from data_tools.steps import executor_of

    config, count_tokens = check_config(
        {"upsample": upsample, "tokenizer": tokenizer, "tolerated": tolerated, "sample": sample}
    )
    runner = executor_of(executor, ray_address)
    finish(read_manifest(source), config, count_tokens, out, runner)


def finish(
    manifest: Manifest,
    config: CheckConfig,
    count_tokens: Callable[[str], int] | None,
    out: Path | None,
    executor: Executor,
) -> None:
    """Checks, reports, and ends with exit code 1 if the data set isn't fit."""
    from data_tools.check import check_manifest, write_report

    found = check_manifest(manifest, config, count_tokens=count_tokens, executor=executor)
    show(found)
    if out is not None:
        write_report(found, out)
        typer.echo(f"{out / 'report.html'}")
    if not found.fit:
        raise typer.Exit(UNFIT)


def show(check: Check) -> None:
    """The rules that something breaks, as a table, and the verdict."""
    from rich.console import Console
    from rich.table import Table

    table = Table("rule", "records", "allowed", "worst", box=None)
    for result in check.results:
        if result.worst:
            worst = result.worst[0]
            style = None if result.allowed is None else "green" if result.passed else "red"
            allowed = "any" if result.allowed is None else str(result.allowed)
            detail = f"{worst.record}: {worst.detail}"
            table.add_row(result.rule, str(result.records), allowed, detail, style=style)
    console = Console()
    if table.rows:
        console.print(table)
    failed = ", ".join(result.rule for result in check.results if not result.passed)
    records = len(check.manifest.records)
    verdict = "fit to train on" if check.fit else f"not fit to train on ({failed or 'no records'})"
    console.print(f"{records} records, {len(check.clips)} recordings: {verdict}")
