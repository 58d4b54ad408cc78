"""A units folder and the encoder that it names, as one extractor."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from omni.checkpoint.bases import load_hubert
from omni.files import UserError
from omni.units import UnitExtractor, read_units_config


def load_units(
    folder: str | Path, *, encoder: nn.Module | None = None, layer: int | None = None
) -> UnitExtractor:
    """Read a units folder, ready to extract.

    encoder: None loads a HuBERT by the name and revision that the folder states: a folder in it,
        or whatever `load_hubert` takes. layer: instead of the one that it states.
    Raises UserError if a file is missing or not as written, or if no encoder is given where the
    kind needs one.
    """
    folder = Path(folder)
    config = read_units_config(folder)
    if encoder is None:
        if config.kind != "hubert":
            raise UserError(
                f"{folder}: its units are features of {config.name!r}; load that speech "
                "encoder and give it as encoder="
            )
        inside = folder / config.name
        source = str(inside) if inside.exists() else config.name
        encoder = load_hubert(source, revision=config.revision)
    return UnitExtractor.load(folder, encoder=encoder, layer=layer)
