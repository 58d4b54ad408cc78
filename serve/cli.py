"""The `omni-serve` command."""

# Heavy imports stand inside the commands: `omni-serve --help` must not wait for torch.
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni.commands import (
    Device,
    StoredDtype,
    command_line,
    without_garbage_collection,
)
from omni.files import UserError, check_file, check_folder, friendly, need
from serve.bench import (
    compiled_command,
    connects_command,
    failover_command,
    fuzz_command,
    interrupt_command,
    latency_command,
    load_command,
    load_robustness_command,
    memory_command,
    protocol_command,
    sessions_command,
    true_length_command,
    vocoder_command,
)
from serve.commands import run_command
from serve.talk import talk_command

if TYPE_CHECKING:
    from serve.tune import Report

CHUNK_UNITS = ["10", "20", "40", "60", "80", "100", "all", "auto"]
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")

app = command_line(
    "omni-serve", "Answer many, fast: measure and choose on the machine that will serve."
)
benches = typer.Typer(no_args_is_help=True, help="Measure; some fail where a limit does not hold.")
benches.command("compiled")(friendly(compiled_command))
benches.command("latency")(friendly(latency_command))
benches.command("load")(friendly(load_command))
benches.command("load-robustness")(friendly(load_robustness_command))
benches.command("failover")(friendly(failover_command))
benches.command("fuzz")(friendly(fuzz_command))
benches.command("interrupt")(friendly(interrupt_command))
benches.command("connects")(friendly(connects_command))
benches.command("memory")(friendly(memory_command))
benches.command("protocol")(friendly(protocol_command))
benches.command("sessions")(friendly(sessions_command))
benches.command("true-length")(friendly(true_length_command))
benches.command("vocoder")(friendly(vocoder_command))
app.add_typer(benches, name="bench")
app.command("run")(friendly(run_command))
app.command("talk")(friendly(talk_command))


@app.command()
@friendly
def tune(
    questions: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR_OR_FILE",
            help="Recorded questions, may be repeated. Default: those that come with omni.",
        ),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="More of them, as in --questions *.wav"),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_DIR_OR_HUB_ID",
            help="The model: nano (the default), mini, or any other.",
        ),
    ] = None,
    chunk_units: Annotated[
        list[str],
        typer.Option(
            metavar="N|N,N,..|all|auto",
            help="Units of speech per chunk to try; may be repeated.",
        ),
    ] = CHUNK_UNITS,
    budget_ms: Annotated[
        float | None,
        typer.Option(min=0, help="The latest acceptable first audio (p95). Default: any."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Times that each question is asked.")] = 3,
    right_context_frames: Annotated[
        int | None,
        typer.Option(min=0, help="20 ms frames a chunk waits for. Default: the vocoder's own."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: as `omni ask` chooses.")
    ] = None,
    device: Device = "auto",
    dtype: StoredDtype = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Where tune.json, tune.png and tune.svg go."
        ),
    ] = Path("tune"),
    write: Annotated[
        bool, typer.Option("--write", help="Put the best choice into the checkpoint's settings.")
    ] = False,
) -> None:
    """Measure each chunk size on this machine and name the best one within the budget.

    Run it on an otherwise idle machine: the load average stands in the report.
    """
    need("matplotlib", "serve", "the picture of tune")
    check_folder(output)
    import os

    from tqdm import tqdm

    with without_garbage_collection():
        from omni.audio import load_audio
        from omni.commands import settle_threads, start, warm_up
        from omni.files import write_json
        from omni.loading import NANO
        from omni.session import SessionConfig
        from omni.vocoder import parse_schedule
        from serve.tune import measure, plot, report, settings_of, write_schedule

    if write:
        check_file(settings_of(checkpoint or NANO))
    schedules = [parse_schedule(text) for text in chunk_units]
    sources = [*(questions or []), *(files or [])] or [NANO.parent / "questions"]
    recordings = [load_audio(path) for path in _find_questions(sources)]
    model, processor = start(checkpoint, threads=threads, device=device, dtype=dtype)
    config = SessionConfig(right_context_frames=right_context_frames)
    load_before = os.getloadavg()[0]
    if threads is None:
        settle_threads(model, processor, config)
    warm_up(model, processor, config)
    with tqdm(total=len(schedules) * len(recordings) * repeats, unit="reply") as bar:
        found = report(
            list(
                measure(
                    model, processor, recordings, schedules, config, repeats=repeats,
                    progress=lambda done, total: bar.update(),
                )
            ),
            questions=len(recordings),
            repeats=repeats,
            budget_ms=budget_ms,
            device=str(model.device),
            load_before=load_before,
        )  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "tune.json", found.as_json())
    for name in ("tune.png", "tune.svg"):
        plot(found, output / name)
    _print(found)
    typer.echo(f"{output}: tune.json, tune.png, tune.svg")
    if found.best is None:
        earliest = min(row.first_audio_p95_ms for row in found.rows)
        raise UserError(
            f"budget_ms={budget_ms:g}: the earliest first audio here is {earliest:.0f} ms (p95); "
            "raise the budget or use a faster machine"
        )
    typer.echo(f"best: {found.best}")
    if write:
        path = write_schedule(checkpoint or NANO, found.best, right_context_frames)
        typer.echo(f"written to {path}")


def _find_questions(sources: Sequence[Path]) -> list[Path]:
    """Recordings named, and those in folders named. Raises UserError if there are none."""
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            files = sorted(f for f in source.iterdir() if f.suffix.lower() in AUDIO_SUFFIXES)
            if not files:
                raise UserError(
                    f"{source}: no recordings in this folder; it must hold "
                    f"{', '.join(AUDIO_SUFFIXES)} files"
                )
            found += files
        else:
            found.append(source)
    return found


def _print(found: "Report") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for title in (
        "units per\nchunk", "first\np50 ms", "audio\np95 ms", "lagging\nwords",
        "real-time\nfactor", "under-\nruns", "seam\nerror", "at\nborders",
    ):  # fmt: skip
        table.add_column(title, justify="right")
    for row in found.rows:
        table.add_row(
            row.schedule + (" *" if row.schedule == found.best else ""),
            f"{row.first_audio_p50_ms:.0f}",
            f"{row.first_audio_p95_ms:.0f}",
            f"{row.lagging_words:.1f}",
            f"{row.real_time_factor:.2f}",
            str(row.underruns),
            f"{row.seam_error:.1e}",
            f"{row.border_error:.1e}",
        )
    machine = found.machine
    Console().print(table)
    typer.echo(
        f"{found.questions} questions x {found.repeats} ({found.mute} without spoken reply), "
        f"{machine.cores} cores, {machine.torch_threads} threads, {machine.device}, "
        f"load {machine.load_before:.1f} to {machine.load_after:.1f}"
    )


if __name__ == "__main__":
    app()
