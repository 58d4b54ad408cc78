"""`omni-train nano` and `mini`: a shipped model, part by part."""

# As in cli.py, heavy imports stand inside the functions.
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni.files import UserError
from train.commands.options import named

if TYPE_CHECKING:
    from train.parts import MadeInParts

TERMINATED = 143  # exit code, 128 + SIGTERM
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Parts at a time; default: 2 where there are 2 cores, no GPU."),
]


def make_in_parts(
    model: "MadeInParts[Any]",
    folder: Path,
    part: str | None,
    *,
    jobs: int | None,
    threads: int | None,
    restart: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Make one part, or all that are not complete; options: of `model.begin`."""
    from train.parts import complete

    if part is not None:
        named(model.parts, part)
        if restart:  # which would remove every part, and then lack what this one needs
            there = [folder / name for name in model.made_from(part) if (folder / name).exists()]
            anew = f"; to make {part} anew, remove {', '.join(map(str, there))}" if there else ""
            raise UserError(
                f"--part {part} --restart: --restart removes every part; give one of the two{anew}"
            )
    if dry_run:
        for name in model.parts if part is None else [part]:
            there = complete(folder, name) and not restart
            typer.echo(f"{name:<12} {'is there' if there else 'would be made'}")
        typer.echo(f"{folder}: nothing was trained or written (--dry-run)")
        return
    with ended_by_sigterm():
        model.begin(folder, restart=restart, **options)
        if part is None:
            model.build_all(folder, jobs=jobs, threads=threads, **options)
        elif complete(folder, part):
            typer.echo(f"{part}: is there")
        else:
            typer.echo(f"{part}: begins")
            model.build(folder, part, **options)
            typer.echo(f"{part}: done")


@contextmanager
def ended_by_sigterm() -> Generator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that the processes it began end with it: a part
    that went on would meet itself when the command is run again."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
