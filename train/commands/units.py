"""`omni-train units`, and before it `layers`: which layer of the encoder to read them from."""

# As in cli.py, heavy imports stand inside the commands.
from pathlib import Path
from typing import Annotated

import typer

from omni.commands import Device, Dtype, add_commands
from omni.files import UserError, need
from train.commands.options import (
    DryRun,
    Encoder,
    ManifestPath,
    MaybeEncoder,
    Output,
    Restart,
    Seed,
    Threads,
    named,
    set_up,
)


def register(app: typer.Typer) -> None:
    """Add the commands to `omni-train`."""
    add_commands(app, layers, units)


def units(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Dialogues with spoken answers.")
    ],
    output: Output,
    speech_encoder: MaybeEncoder = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Fit nothing, take this one: a units folder, or a checkpoint that carries one.",
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="nano; else give --layer and --clusters.")
    ] = None,
    clusters: Annotated[
        int | None, typer.Option(min=2, help="How many units; default: the recipe's.")
    ] = None,
    layer: Annotated[
        int | None, typer.Option(min=0, help="Of the features, from 1; default: the recipe's.")
    ] = None,
    smooth_frames: Annotated[
        int | None, typer.Option(min=1, help="Features are averaged over so many; odd.")
    ] = None,
    threads: Threads = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = None,
    restart: Restart = False,
    dry_run: DryRun = False,
) -> None:
    """Fit the k-means on the recorded answers, and write the manifests anew with their units.

    DIR/units is the extractor, DIR/MANIFEST the manifest that stage 2 trains on. With --extractor
    its own units are found in them, as a vocoder needs them that goes on from another.
    """
    set_up(threads)
    import torch

    from data_tools.manifest import read_manifest
    from omni.checkpoint import load_speech_encoder, load_units
    from omni.devices import choose_device, choose_dtype
    from omni.files import part_folder
    from omni.units import UnitsConfig
    from train.stages import UNITS
    from train.voice import answers, label_answers, make_units

    if len({path.name for path in manifests}) < len(manifests):
        raise UserError("manifests: two have the same file name; rename one")
    fitted = {
        "recipe": recipe,
        "clusters": clusters,
        "layer": layer,
        "smooth-frames": smooth_frames,
        "seed": seed,
    }
    if extractor is not None:
        if given := [name for name, value in fitted.items() if value is not None]:
            raise UserError(f"--{given[0]}: --extractor has that fixed; leave one of the two out")
    elif speech_encoder is None:
        raise UserError(
            "units: of which features is missing; give --speech-encoder, or a made --extractor"
        )
    else:
        need("sklearn", "train", "k-means")  # before the encoder is loaded, perhaps from the hub
    chosen = None if recipe is None else named(UNITS, recipe)()
    layer = layer if layer is not None or chosen is None else chosen.layer
    clusters = clusters or (chosen and chosen.clusters)
    if extractor is None and (layer is None or clusters is None):
        raise UserError("units: how many and of what is missing; give --layer and --clusters")
    read = {path.name: read_manifest(path) for path in manifests}
    if dry_run:
        count = len(answers(list(read.values())))
        how = (
            f"{clusters} units of layer {layer}, fitted on at most 3 h of {count} answers"
            if extractor is None
            else f"the units of {extractor}, in {count} answers"
        )
        typer.echo(f"{how}\n{output}: nothing was fitted or written (--dry-run)")
        return
    where = choose_device(device)
    kind = torch.float32 if dtype == "auto" else choose_dtype(dtype, where)
    encoder = None if speech_encoder is None else load_speech_encoder(speech_encoder).eval()
    if extractor is not None:
        folder = part_folder(extractor, "units")
        loaded = load_units(folder, encoder=encoder)
        loaded.to(where, kind)
        written = label_answers(read, loaded, folder, output=output, restart=restart)
    else:
        assert encoder is not None and layer is not None and clusters is not None
        written = make_units(
            read,
            encoder.to(where, kind),
            UnitsConfig(
                kind="speech_encoder",
                name="speech_encoder",  # the checkpoint's own
                layer=layer,
                smooth_frames=smooth_frames or (chosen.smooth_frames if chosen else 1),
            ),
            clusters=clusters,
            output=output,
            seed=1 if seed is None else seed,
            restart=restart,
        )
    for path in written:
        typer.echo(path)


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
