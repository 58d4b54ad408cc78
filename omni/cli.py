"""The `omni` command: ask a question, hear the answer, look into a checkpoint."""

# Heavy imports stand inside the commands: `omni --help` must not wait for torch.
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni.commands import (
    Compile,
    Device,
    StoredDtype,
    command_line,
    register_fetching,
    without_garbage_collection,
    without_packages_for_others,
)
from omni.commands import register as register_conversion
from omni.files import SHIPPED, UserError, check_file, check_folder, friendly

if TYPE_CHECKING:
    import numpy as np

    from omni.about import CheckpointInfo
    from omni.model import OmniForConditionalGeneration
    from omni.processor import OmniProcessor
    from omni.session import Done, SessionConfig, Timings

app = command_line("omni", "Ask by voice or text, hear the answer.")

Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="NAME_OR_DIR_OR_HUB_ID", help="The model: nano (the default), mini, or any other."
    ),
]
ChunkUnits = Annotated[
    str | None,
    typer.Option(
        metavar="N|N,N,..|all|auto",
        help="Units of speech per chunk: fewer start earlier. Default: the checkpoint's own.",
    ),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1, help="The longest answer, in text tokens. Default: the checkpoint's own, or 256."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads; default: the faster of 1 and torch's choice."),
]


@app.command()
@friendly
def ask(
    question: Annotated[
        Path | None,
        typer.Argument(metavar="QUESTION.wav", help="A recording: wav, flac, ogg or mp3."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="A written question instead.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="ANSWER.wav", help="Where the answer goes.")
    ] = Path("answer.wav"),
    chunk_units: ChunkUnits = None,
    checkpoint: Checkpoint = None,
    max_new_tokens: MaxNewTokens = None,
    text_only: Annotated[bool, typer.Option(help="No sound, no ANSWER.wav.")] = False,
    threads: Threads = None,
    device: Device = "auto",
    dtype: StoredDtype = None,
    compiled: Compile = False,
    warm: Annotated[
        bool,
        typer.Option("--warm-up", help="Answer noise first: the times are a running program's."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Ask one question; the text streams to the terminal, the speech goes to ANSWER.wav."""
    if (question is None) == (text is None):
        raise UserError("question: give a recording or --text, one of the two")
    if chunk_units is not None:
        _check_schedule(chunk_units)
    if not text_only:
        check_file(output)
    with without_garbage_collection(), without_packages_for_others():
        from omni.audio import load_audio, save_wav

        asked = load_audio(question) if question is not None else str(text)
        from omni.commands import compiling, recall_threads, settle_threads, start, warm_up

        model, processor = start(checkpoint, threads=threads, device=device, dtype=dtype)
    if model.vocoder is None and not text_only:
        raise UserError(
            f"{checkpoint}: has no vocoder, so no voice; ask with --text-only, or convert it with "
            "--vocoder"
        )
    if model.unit_decoder is None and not text_only:
        raise UserError(
            f"{checkpoint}: has no unit decoder, so no voice; ask with --text-only, or "
            "train stage 2"
        )
    config = _config(model, chunk_units, max_new_tokens, speak=not text_only)
    settled = threads is not None or recall_threads(model)
    if (warm or compiled) and not settled:
        settle_threads(model, processor, config)
        settled = True
    if compiled:  # for the number of threads that it then keeps
        from omni.session import compile_steps

        with compiling() as progress:
            compile_steps(model, progress=progress)
    if warm:
        warm_up(model, processor, config)
    done, waveform = _answer(model, processor, config, asked, echo=not as_json)
    if not text_only:
        save_wav(output, waveform)
    if as_json:
        typer.echo(json.dumps(done.as_json()))
    else:
        _print_timings([("", done.timings)])
        if not text_only:
            typer.echo(f"{output}: {len(waveform) / 16_000:.1f} s of speech")
    if not settled:  # for the next time: this answer shall not wait for it
        settle_threads(model, processor, config)


@app.command()
@friendly
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the answers go.")
    ] = Path("demo"),
    chunk_units: ChunkUnits = None,
    checkpoint: Checkpoint = None,
    threads: Threads = None,
    device: Device = "auto",
    dtype: StoredDtype = None,
) -> None:
    """Ask the recordings that come with omni, and write the answers."""
    questions = _recordings(checkpoint)
    if not questions:
        raise UserError("omni/nano/questions: no recordings there; install omni again")
    check_folder(output)
    with without_garbage_collection(), without_packages_for_others():
        from omni.audio import load_audio, save_wav
        from omni.commands import settle_threads, start, warm_up

        model, processor = start(checkpoint, threads=threads, device=device, dtype=dtype)
    parts = {"unit decoder": model.unit_decoder, "vocoder": model.vocoder}
    missing = next((name for name, part in parts.items() if part is None), None)
    config = _config(model, chunk_units, None, speak=missing is None)
    if threads is None:
        settle_threads(model, processor, config)
    warm_up(model, processor, config)
    output.mkdir(parents=True, exist_ok=True)
    timings = []
    for question in questions:
        typer.echo(f"\n{question}\n  > ", nl=False)
        done, waveform = _answer(model, processor, config, load_audio(question), echo=True)
        if missing is not None:
            typer.echo(f"  in text alone: the checkpoint has no {missing}")
        else:
            save_wav(output / question.name, waveform)
            typer.echo(f"  {output / question.name}: {len(waveform) / 16_000:.1f} s of speech")
        timings.append((question.stem, done.timings))
    typer.echo("")
    _print_timings(timings)


@app.command()
@friendly
def info(
    checkpoint: Annotated[
        str | None,
        typer.Argument(metavar="NAME_OR_DIR_OR_HUB_ID", help="nano (the default), mini, or other."),
    ] = None,
) -> None:
    """Describe a checkpoint: its parts, their sizes and bases, and what was trained."""
    from omni.about import describe
    from omni.commands import quieten
    from omni.loading import NANO

    quieten()
    _print_info(describe(NANO if checkpoint is None else checkpoint))


def _recordings(checkpoint: str | None) -> list[Path]:
    """Questions that come with omni: everybody's, and those of the named checkpoint alone."""
    folders = [
        SHIPPED[name].parent / "questions" for name in ("nano", checkpoint) if name in SHIPPED
    ]
    return [path for folder in dict.fromkeys(folders) for path in sorted(folder.glob("*.wav"))]


def _check_schedule(chunk_units: str) -> None:
    """Before the model loads, which takes seconds."""
    from omni.vocoder import parse_schedule

    parse_schedule(chunk_units)


def _config(
    model: "OmniForConditionalGeneration",
    chunk_units: str | None,
    tokens: int | None,
    *,
    speak: bool,
) -> "SessionConfig":
    """The checkpoint's own settings, but for what was asked for."""
    from omni.session import SessionConfig
    from omni.vocoder import parse_schedule

    schedule = parse_schedule(chunk_units) if chunk_units else None
    asked = {"schedule": schedule, "max_new_tokens": tokens}
    given = {name: value for name, value in asked.items() if value is not None}
    return SessionConfig.from_model(model, speak=speak, **given)


def _answer(
    model: "OmniForConditionalGeneration",
    processor: "OmniProcessor",
    config: "SessionConfig",
    question: "np.ndarray | str",
    *,
    echo: bool,
) -> "tuple[Done, np.ndarray]":
    """The end of the reply, and its waveform [W]."""
    import numpy as np

    from omni.session import AudioDelta, Done, SpeechSession, TextDelta

    spoken = [np.zeros(0, np.float32)]
    for event in SpeechSession(model, processor, config).ask(question):
        if isinstance(event, TextDelta) and echo:
            print(event.text, end="", flush=True)
        elif isinstance(event, AudioDelta):
            spoken.append(event.waveform)
        elif isinstance(event, Done):
            if echo:
                print()
            return event, np.concatenate(spoken)
    raise AssertionError("a reply ends with Done")


def _print_timings(rows: "list[tuple[str, Timings]]") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title="ms after the last sample of the question", title_justify="left", box=SIMPLE_HEAD
    )
    if any(name for name, _ in rows):
        table.add_column("question")
    for title in (
        "encode", "prefill", "first\ntoken", "first\nunit", "first\naudio", "total",
        "real-time\nfactor",
    ):  # fmt: skip
        table.add_column(title, justify="right")
    for name, timings in rows:
        moments = (
            timings.encode_ms, timings.prefill_ms, timings.first_token_ms, timings.first_unit_ms,
            timings.first_audio_ms, timings.total_ms,
        )  # fmt: skip
        factor = timings.real_time_factor
        cells = ["-" if moment is None else f"{moment:.0f}" for moment in moments]
        cells.append("-" if factor is None else f"{factor:.2f}")
        table.add_row(*([name] if name else []), *cells)
    Console().print(table)


def _print_info(info: "CheckpointInfo") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(info.folder), title_justify="left", box=SIMPLE_HEAD)
    for title in ("part", "shape", "parameters", "weights", "trained in"):
        table.add_column(title, justify="right" if title == "parameters" else "left")
    for part in info.parts:
        parameters = f"{part.parameters:,}"
        table.add_row(part.name, part.shape, parameters, part.source, part.trained)
    Console().print(table)
    typer.echo(f"{info.parameters:,} parameters, {info.megabytes:.1f} MB in the folder")
    typer.echo(f"units: {info.units}; chunk schedule: {info.schedule}")


register_conversion(app)
register_fetching(app)

if __name__ == "__main__":
    app()
