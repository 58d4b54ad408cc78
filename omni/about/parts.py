"""What a checkpoint is made of, told without loading its weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from omni.config import OmniConfig
from omni.files import CheckpointError, fetch, read_header, read_json
from omni.vocoder import SETTING

LETTERS = "spelling.codes"  # of the unit decoder: a table, nothing that is trained
LORA_BASE = "base"  # the folder beside LoRA weights that holds the LLM below them


@dataclass(frozen=True, kw_only=True)
class PartInfo:
    """One part. source: where its weights are; trained: the stages of training that changed it."""

    name: str
    shape: str
    parameters: int
    source: str
    trained: str


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """folder: the checkpoint; megabytes: of all its files; schedule: the chunk schedule."""

    folder: Path
    megabytes: float
    parts: tuple[PartInfo, ...]
    units: str
    schedule: str

    @property
    def parameters(self) -> int:
        """Of all parts together."""
        return sum(part.parameters for part in self.parts)


@dataclass(frozen=True)
class _Stored:
    """What lies in some safetensors files."""

    parameters: int
    types: tuple[str, ...]


def describe(source: str | Path) -> CheckpointInfo:
    """Read a folder's or hub id's configuration and the headers of its weights.

    Raises CheckpointError if a file is missing or broken.
    """
    folder = fetch(str(source))
    read_json(folder / "config.json")
    config = OmniConfig.from_pretrained(folder)
    sizes = _sizes_by_config(config)
    shapes = {
        "speech_encoder": _encoder_shape(config),
        "speech_adapter": _adapter_shape(config),
        "language_model": _text_shape(config),
    }
    if (units := config.units) is not None:
        shapes["unit_decoder"] = (
            f"{units.width} x {units.layers}, {units.num_units} units, upsamples {units.upsample}"
            + (", gate fusion" if units.gate_fusion else "")
            + (f", {units.spelling} letters of a token" if units.spelling else "")
        )
    if (folder / "vocoder").is_dir():
        kind = read_json(folder / "vocoder" / "config.json").get("kind", "unknown")
        shapes["vocoder"] = str(kind)
    generation = folder / "generation_config.json"
    settings = read_json(generation) if generation.is_file() else {}
    return CheckpointInfo(
        folder=folder,
        megabytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6,
        parts=tuple(_part(folder, config, name, shapes[name], sizes) for name in shapes),
        units=_units(folder),
        schedule=str(settings.get(SETTING) or "auto"),
    )


def _part(
    folder: Path, config: OmniConfig, name: str, shape: str, sizes: dict[str, int]
) -> PartInfo:
    stored = _stored(folder, name)
    base = config.bases.get(name)
    if stored is not None:
        source = f"carried, {' and '.join(stored.types)}"
        parameters = stored.parameters
        if (folder / name / "adapter_config.json").is_file():
            below = (folder / name / LORA_BASE).is_dir()
            source = f"LoRA {source}, on {'an LLM carried beside it' if below else base}"
            parameters += sizes[name]
    elif base is not None:
        source, parameters = f"base {base}", sizes[name]
    else:
        raise CheckpointError(
            f"{folder}: no weights of {name}, and config.json names no base for it; copy the "
            "folder again"
        )
    trained = [stage for stage, parts in config.trained.items() if name in parts]
    return PartInfo(
        name=name, shape=shape, parameters=parameters, source=source,
        trained=", ".join(trained) or "-",
    )  # fmt: skip


def _stored(folder: Path, name: str) -> _Stored | None:
    """The weights of a part that the folder carries: NAME.safetensors, or a folder NAME."""
    single = folder / f"{name}.safetensors"
    files = [single] if single.is_file() else sorted((folder / name).glob("*.safetensors"))
    if not files:
        return None
    headers = [
        entry for file in files for key, entry in read_header(file).items() if key != LETTERS
    ]
    return _Stored(
        parameters=sum(prod(entry.shape) for entry in headers),
        types=tuple(sorted({entry.dtype for entry in headers})),
    )


def _sizes_by_config(config: OmniConfig) -> dict[str, int]:
    """Parameters of the parts that config.json describes, counted on the meta device."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(config)
    return {
        name: sum(weight.numel() for weight in child.parameters())
        for name, child in model.named_children()
    }


def _encoder_shape(config: OmniConfig) -> str:
    audio = config.audio_config
    return f"Whisper {audio.d_model} x {audio.encoder_layers}, {audio.num_mel_bins} mel bins"


def _adapter_shape(config: OmniConfig) -> str:
    adapter = config.adapter
    mixture = f", mixes {adapter.vocabulary} tokens" if adapter.vocabulary else ""
    return f"stacks {adapter.stack}, {adapter.hidden} wide{mixture}"


def _text_shape(config: OmniConfig) -> str:
    text = config.text_config
    return f"{text.model_type} {text.hidden_size} x {text.num_hidden_layers}"


def _units(folder: Path) -> str:
    """Whose features the units are; "-" where the checkpoint carries no unit extractor."""
    if not (folder / "units" / "config.json").is_file():
        return "-"
    units = read_json(folder / "units" / "config.json")
    return f"k-means on layer {units.get('layer')} of {units.get('name')}"
