"""A units folder and the encoder that it names, as one extractor."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from omni.auto import MODEL_TYPE
from omni.checkpoint.bases import load_hubert, load_speech_encoder
from omni.checkpoint.encoder_lora_files import lora_base
from omni.checkpoint.named import is_here, require_bases
from omni.checkpoint.pretrained import read_config
from omni.files import UserError, read_json
from omni.units import UnitExtractor, UnitsConfig, read_units_config

INSIDE = "speech_encoder"  # the name, in a checkpoint, of the encoder beside the units


def load_units(
    folder: str | Path, *, encoder: nn.Module | None = None, layer: int | None = None
) -> UnitExtractor:
    """Read a units folder, ready to extract.

    encoder: None loads a HuBERT by the name and revision that the folder states: a folder in it,
        or whatever `load_hubert` takes; for units of a speech encoder, that of the checkpoint whose
        folder they lie in, or else the one that they name. layer: instead of the stated one.
    Raises UserError if a file is missing or not as written, or if no encoder is given where the
    kind needs one.
    """
    folder = Path(folder)
    config = read_units_config(folder)
    if encoder is None:
        encoder = _named_hubert(folder, config) if config.kind == "hubert" else _own(folder, config)
    return UnitExtractor.load(folder, encoder=encoder, layer=layer)


def _named_hubert(folder: Path, config: UnitsConfig) -> nn.Module:
    inside = folder / config.name
    source = str(inside) if inside.exists() else config.name
    return load_hubert(source, revision=config.revision)


def _own(folder: Path, config: UnitsConfig) -> nn.Module:
    """The speech encoder that these units are of: of their checkpoint, or by their own name."""
    checkpoint = folder.resolve().parent
    file = checkpoint / "config.json"
    if file.is_file() and read_json(file).get("model_type") == MODEL_TYPE:
        whole = read_config(checkpoint)
        require_bases(checkpoint, whole, name=str(checkpoint), parts=(INSIDE,))
        carried = checkpoint / INSIDE
        # Units were fitted on the encoder as it was before LoRA.
        found = lora_base(carried) or (carried if carried.is_dir() else None)
        base = str(found or whole.bases.get(INSIDE) or carried)
        return load_speech_encoder(base, local_files_only=True)
    if config.name == INSIDE or not is_here(config.name):
        raise UserError(
            f"{folder}: its units are features of {config.name!r}, which is neither beside it nor "
            "on this machine; give it: --speech-encoder of omni-data units, encoder= of load_units"
        )
    return load_speech_encoder(config.name, local_files_only=True)
