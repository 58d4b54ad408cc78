"""`omni-serve bench interrupt`: how soon a server hears that it is interrupted, and stops."""

# Heavy imports stand inside the function: `omni-serve --help` must not wait for torch.
from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from omni.files import need
from serve.bench.table import print_table


def interrupt_command(
    sessions: Annotated[
        int, typer.Option(min=1, help="Clients at a time: one interrupts, the others talk.")
    ] = 8,
    times: Annotated[int, typer.Option(min=1, help="By voice, and by message.")] = 50,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="NAME_OR_DIR_OR_HUB_ID", help="Default: nano.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the server.")] = None,
) -> None:
    """From a voice's onset to the event that it was heard, and from a cancel to the answer's end.

    Starts a server in another process. Questions are spoken into answers in frames of 20 ms, in
    real time; the onset is the first sample above a fiftieth of the peak. Run it on an otherwise
    idle machine.
    """
    need("websockets", "serve", "the bench of interruptions")
    from omni.audio import load_audio
    from omni.loading import NANO
    from serve.bench.interrupts.client import measure
    from serve.bench.load import own_server

    questions = [load_audio(file) for file in sorted((NANO.parent / "questions").glob("*.wav"))]
    options = ["--max-sessions", str(sessions)]
    options += [] if checkpoint is None else ["--checkpoint", checkpoint]
    options += [] if threads is None else ["--threads", str(threads)]
    with own_server(options) as url:
        found = asyncio.run(measure(url, questions, others=sessions - 1, times=times))
    print_table(f"interrupting, beside {sessions - 1} others", found.cells())
    typer.echo(f"{found.too_late} cancels came after the answer; load average {found.load:.1f}")
