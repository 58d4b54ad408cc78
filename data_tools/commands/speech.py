"""The speech half of `omni-data`: speak, augment, units, features."""

# Heavy imports stand inside the commands: `omni-data --help` must not wait for torch.
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni.commands import Device, Dtype, add_commands
from omni.files import UserError

if TYPE_CHECKING:
    from data_tools.steps import Step

Source = Annotated[Path, typer.Argument(metavar="MANIFEST", help="Ends in .jsonl or .parquet.")]
Out = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="MANIFEST", help="The new manifest; audio lies beside it."
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Default: all cores.")]
Seed = Annotated[int, typer.Option(help="Chooses what is drawn.")]
ExecutorName = Annotated[
    str, typer.Option(help="Who works: local (this machine's cores), ray (a Ray cluster).")
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="The Ray cluster; default: RAY_ADDRESS, else this machine. Its nodes need this "
        "package, and the data set's folder under the same path: storage that they share.",
    ),
]
MaxLeftOut = Annotated[
    float, typer.Option(min=0, max=1, help="Share of records that may remain without result.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands of this file to `omni-data`."""
    add_commands(app, speak, augment, units, features)


def speak(
    source: Source,
    out: Out,
    tts: Annotated[
        str,
        typer.Option(help="installed (flite, espeak, festival), transformers, openai, command."),
    ] = "installed",
    voice: Annotated[
        list[str] | None,
        typer.Option(help="Of the questions; several are drawn from. Default: 500 Debian voices."),
    ] = None,
    answer_voice: Annotated[str | None, typer.Option(help="Of all answers.")] = None,
    answer_tts: Annotated[str | None, typer.Option(help="Default: the questions'.")] = None,
    model: Annotated[str | None, typer.Option(help="For transformers and openai.")] = None,
    url: Annotated[str | None, typer.Option(help="For openai: the server, up to /v1.")] = None,
    command: Annotated[
        str | None, typer.Option(help='For command: "PROGRAM {text} {out}".')
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    role: Annotated[
        list[str] | None,
        typer.Option(help="Whose turns; `assistant` leaves questions in writing. Default: both."),
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Voices tried per dialogue.")] = 3,
    seed: Seed = 0,
    workers: Workers = None,
    max_left_out: MaxLeftOut = 0.05,
    executor: ExecutorName = "local",
    ray_address: RayAddress = None,
) -> None:
    """Speak every turn that has no recording: a drawn voice asks, one voice answers."""
    from data_tools.manifest import ROLES
    from data_tools.speech import SpeakStep, speaker_of

    given = {
        "transformers": {"model": model, "device": device, "dtype": dtype},
        "openai": {"model": model, "url": url},
        "command": {"command": command},
    }

    def speaker(kind: str, voices: list[str]) -> Any:
        options = {name: value for name, value in given.get(kind, {}).items() if value is not None}
        return speaker_of({"engine": {"kind": kind, **options}, "voices": voices})

    kind = answer_tts or tts
    fallback = "flite-slt" if kind == "installed" else f"{kind}-default"
    default = [] if tts == "installed" else [f"{tts}-default"]
    step = SpeakStep(
        question=speaker(tts, voice or default),
        answer=speaker(kind, [answer_voice or fallback]),
        roles=tuple(role or ROLES),
        attempts=attempts,
        seed=seed,
    )
    by = (executor, ray_address)
    run(source, out, step, by, workers=workers, max_left_out=max_left_out)


def augment(
    source: Source,
    out: Out,
    telephone: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the questions through a telephone.")
    ] = 0.0,
    snr: Annotated[tuple[float, float], typer.Option(help="Speech to noise, dB.")] = (8.0, 35.0),
    noise: Annotated[float, typer.Option(min=0, max=1, help="Share with noise.")] = 0.8,
    echo: Annotated[float, typer.Option(min=0, max=1, help="Share in a room.")] = 0.5,
    speed: Annotated[tuple[float, float], typer.Option(help="Playing speed.")] = (0.85, 1.18),
    split: Annotated[list[str] | None, typer.Option(help="Default: train alone.")] = None,
    epoch: Annotated[int, typer.Option(help="Another number draws anew.")] = 0,
    seed: Seed = 0,
    workers: Workers = None,
    executor: ExecutorName = "local",
    ray_address: RayAddress = None,
) -> None:
    """Write the questions out with noise, rooms, speed, telephone; training does so by itself."""
    from data_tools.speech import AugmentConfig, AugmentStep

    config = AugmentConfig(
        telephone_share=telephone, snr_db=snr, noise_share=noise, echo_share=echo, speed=speed
    )
    step = AugmentStep(config=config, seed=seed, epoch=epoch, splits=tuple(split or ["train"]))
    run(source, out, step, (executor, ray_address), workers=workers)


def units(
    source: Source,
    out: Out,
    units: Annotated[
        str,
        typer.Option("--extractor", metavar="DIR", help="A units folder, or what carries one."),
    ],
    encoder: Annotated[
        str | None,
        typer.Option("--speech-encoder", help="Where the units are of its features."),
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="Default: assistant alone.")] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings at a time.")] = 16,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Default: all cores, or one for the GPU.")
    ] = None,
    executor: ExecutorName = "local",
    ray_address: RayAddress = None,
) -> None:
    """Turn the answers' speech into units."""
    from data_tools.encode import load_units_step

    step = load_units_step(
        units,
        encoder=encoder,
        roles=tuple(role or ["assistant"]),
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
    run(source, out, step, (executor, ray_address), workers=workers)


def features(
    source: Source,
    encoder: Annotated[
        str, typer.Option("--speech-encoder", help="Folder, openai-whisper's file or hub id.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            show_default=False,
            help="What stage 1 takes as its cache; default: frames/ beside the manifest, which "
            "stage 1 finds by itself.",
        ),
    ] = None,
    variants: Annotated[int, typer.Option(min=0, help="Augmented ones beside the clean.")] = 4,
    split: Annotated[list[str] | None, typer.Option(help="Default: train alone.")] = None,
    clean_split: Annotated[list[str] | None, typer.Option(help="Default: validation.")] = None,
    pad_to_window: Annotated[bool, typer.Option(help="As published weights need it.")] = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings at a time.")] = 32,
    seed: Annotated[int, typer.Option(help="Of augmentation; stage 1's own by default.")] = 1,
) -> None:
    """Encode the questions ahead of stage 1. Stopped and run again, it goes on where it was."""
    from data_tools.encode import FeaturesConfig, extract_features
    from data_tools.manifest import read_manifest
    from omni.checkpoint import load_speech_encoder
    from omni.devices import choose_device, choose_dtype

    folder = folder or source.parent / "frames"
    place = choose_device(device)
    cache = extract_features(
        read_manifest(source),
        load_speech_encoder(encoder).to(place),
        folder,
        FeaturesConfig(
            augmented=tuple(split or ["train"]),
            clean=tuple(clean_split or ["validation"]),
            variants=variants,
            seed=seed,
            pad_to_window=pad_to_window,
            batch_size=batch_size,
            dtype=choose_dtype(dtype, place),
        ),
    )
    typer.echo(f"{folder}: {len(cache.names)} recordings")


def run(
    source: Path,
    out: Path,
    step: Step,
    by: tuple[str, str | None],
    *,
    workers: int | None = None,
    max_left_out: float = 0.05,
) -> None:
    """One step from a manifest into another, and what came of it; by: executor and Ray address."""
    from data_tools.manifest import read_manifest
    from data_tools.steps import executor_of, step_over_file

    if out.resolve() == source.resolve():
        raise UserError(f"{out}: is the source itself; write another manifest")
    executor = executor_of(*by)  # before the manifest is read, which may take long
    result = step_over_file(
        read_manifest(source),
        step,
        out,
        workers=workers,
        max_left_out=max_left_out,
        executor=executor,
    )
    left_out = f", {len(result.left_out)} left out" if result.left_out else ""
    typer.echo(f"{out}: {len(result.records)} records, {result.made} new{left_out}")
