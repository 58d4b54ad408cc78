"""`omni-train layers`: which layer of the speech encoder to read units from."""

# As in cli.py, heavy imports stand inside the command.
from typing import Annotated

import typer

from omni.commands import Device, Dtype, add_commands
from omni.files import UserError, need
from train.commands.options import (
    Encoder,
    ManifestPath,
    Output,
    Restart,
    Seed,
    Threads,
    set_up,
)


def register(app: typer.Typer) -> None:
    """Add the command to `omni-train`."""
    add_commands(app, layers)


def layers(
    manifest: ManifestPath,
    speech_encoder: Encoder,
    output: Output,
    clusters: Annotated[int, typer.Option(min=2, help="How many units, as `units` will make.")],
    layer: Annotated[
        list[int] | None,
        typer.Option(min=0, help="One to try; may be repeated. Default: all, from 1."),
    ] = None,
    smooth_frames: Annotated[
        int, typer.Option(min=1, help="Features are averaged over so many; odd.")
    ] = 1,
    hours: Annotated[
        float, typer.Option(min=0.01, help="Of speech that each k-means is fitted on.")
    ] = 0.5,
    threads: Threads = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = None,
    restart: Restart = False,
) -> None:
    """Before `units`: try several layers, and say what their units keep of the words.

    Units are fitted on split train and compared on split validation with phones that pocketsphinx
    has aligned there; English alone. DIR/report.json has it all.
    """
    set_up(threads)
    import torch

    from data_tools.manifest import read_manifest
    from omni.checkpoint import load_speech_encoder
    from omni.devices import choose_device, choose_dtype
    from omni.units import UnitsConfig
    from train.voice import measure_layers

    need("sklearn", "train", "k-means")  # before the encoder is loaded, perhaps from the hub
    need("pocketsphinx", "eval", "forced alignment of phones")
    dialogues = read_manifest(manifest)
    where = choose_device(device)
    kind = torch.float32 if dtype == "auto" else choose_dtype(dtype, where)
    encoder = load_speech_encoder(speech_encoder).eval().to(where, kind)
    last = len(encoder.layers)
    chosen = layer or list(range(1, last + 1))
    if max(chosen) > last:
        raise UserError(f"layer={max(chosen)}: {speech_encoder} has {last}; give 0 to {last}")
    reports = measure_layers(
        dialogues,
        encoder,
        UnitsConfig(
            kind="speech_encoder", name="speech_encoder", layer=0, smooth_frames=smooth_frames
        ),
        chosen,
        clusters=clusters,
        output=output,
        seed=1 if seed is None else seed,
        max_hours=hours,
        restart=restart,
    )
    typer.echo("layer   pnmi   bits of the unit left by the phone   phone purity   units/s")
    for one in reports:
        typer.echo(
            f"{one.layer:>5}  {one.pnmi:.3f}  {one.unit_bits:>35.2f}  {one.phone_purity:>13.3f}  "
            f"{one.units_per_second:>8.1f}"
        )
    best = max(reports, key=lambda report: report.pnmi)
    typer.echo(f"layer {best.layer} keeps the most of the words; its voice is yet to be heard")
    typer.echo(output / "report.json")
