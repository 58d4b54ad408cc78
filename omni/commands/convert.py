"""`omni convert`, `omni export`, `omni units` and `omni vocode`."""

# Heavy imports stand inside the commands: `omni --help` must not wait for torch.
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from omni.commands.device_options import Device, Dtype
from omni.files import UserError, check_file, check_folder, friendly

if TYPE_CHECKING:
    from omni.foreign import Progress
    from omni.units import UnitExtractor

app = typer.Typer(no_args_is_help=True, help="Turn published weights into this program's folders.")

Target = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Where it goes, a new folder.")
]
UnitsFolder = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="DIR", help="A units folder; may hold the other half already."
    ),
]


class Conversion(Protocol):
    """What every reader of foreign files gives: checked, sized, not yet written."""

    @property
    def nbytes(self) -> int:
        """How many bytes `write` will write, for the progress bar."""
        ...

    def write(self, folder: Path, progress: "Progress | None" = None) -> object:
        """Leave the whole folder, or nothing of it; `progress` is told of every n bytes written."""
        ...


def register(omni: typer.Typer) -> None:
    """Add these commands to the `omni` command."""
    omni.add_typer(app, name="convert")
    for command in (export, units, vocode):
        omni.command()(command)


@app.command("llama-omni")
@friendly
def convert_llama_omni(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The published folder.")],
    target: Target,
    whisper: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The encoder's openai-whisper file (large-v3.pt); wins over one inside SRC.",
        ),
    ] = None,
    vocoder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="fairseq's vocoder: g_00500000 and config.json."),
    ] = None,
) -> None:
    """A LLaMA-Omni checkpoint, in one file or shards, its encoder inside or apart."""
    _check_new(target)
    from omni.foreign import read_llama_omni, read_vocoder

    voice = read_vocoder(vocoder) if vocoder is not None else None
    _write(read_llama_omni(source, whisper=whisper, vocoder=voice), target)


@app.command("whisper")
@friendly
def convert_whisper(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="A file of openai-whisper, such as large-v3.pt, or a folder of transformers or "
            "CTranslate2 (faster-whisper).",
        ),
    ],
    target: Target,
) -> None:
    """The encoder of a Whisper."""
    _check_new(target)
    from omni.foreign import read_encoder

    _write(read_encoder(source), target)


@app.command("vocoder")
@friendly
def convert_vocoder(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of g_00500000 and config.json.")
    ],
    target: Target,
) -> None:
    """fairseq's unit HiFi-GAN."""
    _check_new(target)
    from omni.foreign import read_vocoder

    _write(read_vocoder(folder), target)


@app.command("hubert")
@friendly
def convert_hubert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="fairseq's HuBERT or mHuBERT.")],
    target: UnitsFolder,
    layer: Annotated[
        int | None,
        typer.Option(min=1, help="Whose features the units are; default: 11, or the last."),
    ] = None,
) -> None:
    """The encoder of a unit extractor."""
    _check_units_folder(target)
    from omni.foreign import read_hubert

    weights = read_hubert(file)
    chosen = weights.resolve_layer(layer)
    with _bar(weights.nbytes) as progress:
        weights.write(target, progress, layer=chosen)
    typer.echo(f"{target}: units are features of layer {chosen}")


@app.command("kmeans")
@friendly
def convert_kmeans(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="For instance ..._km1000.bin.")],
    target: UnitsFolder,
) -> None:
    """The centroids of a unit extractor, from a joblib pickle of scikit-learn's k-means."""
    _check_units_folder(target)
    from omni.foreign import read_kmeans

    _write(read_kmeans(file), target)


@friendly
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT")],
    target: Target,
    encoder_file: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="What config.json calls the openai-whisper file."),
    ] = None,
    encoder_inside: Annotated[
        bool, typer.Option(help="Put the encoder's weights among the others as well.")
    ] = False,
) -> None:
    """Write a checkpoint in LLaMA-Omni's own format."""
    _check_new(target)
    from omni.files import shipped
    from omni.foreign import ENCODER_FILE, read_export

    checkpoint = shipped(str(checkpoint)) or checkpoint
    named = ENCODER_FILE if encoder_file is None else encoder_file
    _write(read_export(checkpoint, encoder_file=named, encoder_inside=encoder_inside), target)


@friendly
def units(
    recordings: Annotated[list[Path], typer.Argument(metavar="AUDIO...")],
    extractor: Annotated[
        Path,
        typer.Option(metavar="DIR", help="A units folder, or a checkpoint that carries one."),
    ],
    layer: Annotated[
        int | None, typer.Option(min=1, help="Instead of the layer that the folder names.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Speech to units, repeats merged: one JSON line per file."""
    from omni.audio import load_audio
    from omni.devices import choose_device, choose_dtype
    from omni.files import part_folder

    place = choose_device(device)
    loaded = _load_extractor(part_folder(extractor, "units"), layer)
    loaded.to(place, choose_dtype(dtype, place))
    for recording in recordings:
        merged = loaded.extract_merged(load_audio(recording)).tolist()
        typer.echo(json.dumps({"file": str(recording), "units": merged}))


@friendly
def vocode(
    vocoder: Annotated[
        Path,
        typer.Option(metavar="DIR", help="A vocoder's folder, or a checkpoint that carries one."),
    ],
    unit_text: Annotated[
        str, typer.Option("--units", metavar='"12 45 ..."', help="Merged units; - reads them.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.wav")],
    durations: Annotated[
        bool, typer.Option(help="Predict how long each unit lasts; without: 20 ms each.")
    ] = True,
    device: Device = "auto",
) -> None:
    """Units to speech. Units below 0 are left out."""
    check_file(output)
    sequence = _parse_units(
        typer.get_text_stream("stdin").read() if unit_text == "-" else unit_text
    )
    import torch

    from omni.audio import SAMPLE_RATE, save_wav
    from omni.devices import choose_device, exact_device
    from omni.files import part_folder
    from omni.vocoder import load_vocoder
    from omni.vocoder import vocode as speak

    voice = load_vocoder(part_folder(vocoder, "vocoder")).to(exact_device(choose_device(device)))
    waveform = speak(voice, torch.tensor(sequence), use_durations=durations)
    save_wav(output, waveform.cpu().numpy())
    typer.echo(f"{output}: {len(waveform) / SAMPLE_RATE:.2f} s of speech")


def _parse_units(text: str) -> list[int]:
    try:
        units = [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise UserError(f"units {text[:40]!r}: must be whole numbers with spaces between") from None
    spoken = [unit for unit in units if unit >= 0]  # the original's way of saying "nothing here"
    if not spoken:
        raise UserError(f"units {text[:40]!r}: at least one unit of 0 or more is needed")
    return spoken


def _load_extractor(folder: Path, layer: int | None) -> "UnitExtractor":
    from transformers.utils import logging

    from omni.checkpoint import load_units

    logging.disable_progress_bar()
    if not (folder / "config.json").is_file() and (folder / "centroids.safetensors").is_file():
        raise UserError(f"{folder}: has centroids, but no encoder; add it by `omni convert hubert`")
    if (folder / "config.json").is_file() and not (folder / "centroids.safetensors").is_file():
        raise UserError(f"{folder}: has no centroids; add them by `omni convert kmeans`")
    return load_units(folder, layer=layer)


def _check_new(target: Path) -> None:
    """Before anything is read: conversions take minutes."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: is there already and not empty; give a new folder")
    check_folder(target)


def _check_units_folder(target: Path) -> None:
    known = {"config.json", "centroids.safetensors", "hubert"}
    others = [entry.name for entry in target.iterdir()] if target.is_dir() else []
    if target.is_file() or not known.issuperset(others):
        raise UserError(
            f"{target}: is no units folder; give a new one, or one that holds only that"
        )
    check_folder(target)


def _write(conversion: Conversion, target: Path) -> None:
    with _bar(conversion.nbytes) as progress:
        conversion.write(target, progress)
    typer.echo(f"{target}: {conversion.nbytes / 1e6:,.1f} MB of weights")


@contextmanager
def _bar(nbytes: int) -> Generator["Progress"]:
    from tqdm import tqdm

    with tqdm(total=nbytes, unit="B", unit_scale=True) as bar:
        yield bar.update
