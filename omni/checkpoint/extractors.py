"""A units folder and the encoder that it names, as one extractor."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from omni.checkpoint.bases import load_hubert, load_speech_encoder
from omni.checkpoint.encoder_lora_files import lora_base
from omni.checkpoint.named import require_bases
from omni.checkpoint.pretrained import read_config
from omni.files import UserError
from omni.units import UnitExtractor, UnitsConfig, read_units_config


def load_units(
    folder: str | Path, *, encoder: nn.Module | None = None, layer: int | None = None
) -> UnitExtractor:
    """Read a units folder, ready to extract.

    encoder: None loads a HuBERT by the name and revision that the folder states: a folder in it,
        or whatever `load_hubert` takes; for units of a speech encoder, that of the checkpoint whose
        folder they lie in. layer: instead of the one that it states.
    Raises UserError if a file is missing or not as written, or if no encoder is given where the
    kind needs one.
    """
    folder = Path(folder)
    config = read_units_config(folder)
    if encoder is None:
        encoder = _named_hubert(folder, config) if config.kind == "hubert" else _beside(folder)
    return UnitExtractor.load(folder, encoder=encoder, layer=layer)


def _named_hubert(folder: Path, config: UnitsConfig) -> nn.Module:
    inside = folder / config.name
    source = str(inside) if inside.exists() else config.name
    return load_hubert(source, revision=config.revision)


def _beside(folder: Path) -> nn.Module:
    """The speech encoder of the checkpoint that carries these units."""
    checkpoint = folder.resolve().parent
    if not (checkpoint / "config.json").is_file():
        raise UserError(
            f"{folder}: its units are features of a speech encoder, and it lies in no checkpoint "
            "that has one; give it: --speech-encoder of omni-data units, encoder= of load_units"
        )
    config = read_config(checkpoint)
    require_bases(checkpoint, config, name=str(checkpoint), parts=("speech_encoder",))
    carried = checkpoint / "speech_encoder"
    # Units were fitted on the encoder as it was before LoRA.
    found = lora_base(carried) or (carried if carried.is_dir() else None)
    base = str(found or config.bases.get("speech_encoder") or carried)
    return load_speech_encoder(base, local_files_only=True)
