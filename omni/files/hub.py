"""A folder on this machine or on the hub, by one name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from omni.files.folders import CheckpointError
from omni.files.memory import cache_folder
from omni.files.ours import SHIPPED

OPENAI_NAMES = (
    "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en",
    "large-v1", "large-v2", "large-v3", "large-v3-turbo",
)  # fmt: skip

# What transformers' `from_pretrained` says of a hub id, in huggingface_hub's words.
HUB_KEYWORDS = ("revision", "token", "cache_dir", "local_files_only", "force_download")
# Of these, the ones by which a user asks for the hub's own, not for the copy that was fetched.
_OF_THE_HUB = ("revision", "cache_dir", "force_download")


def fetch(source: str, **hub: Any) -> Path:
    """A local folder or file as it is, a checkpoint that comes with the package by its name;
    anything else is a hub id: what `omni fetch-bases` has fetched of it, else what huggingface_hub
    gives.

    hub: HUB_KEYWORDS, for a hub id. Raises CheckpointError if it is none of these.
    """
    if (ours := shipped(source)) is not None:
        return ours
    path = local_path(source)
    if path.exists():
        return path
    if not is_hub_id(source):
        raise CheckpointError(
            f"{source}: no such file or folder, and no hub id (OWNER/NAME) either; check the path"
        )
    put_by = on_this_machine(source)
    if put_by is not None and not any(hub.get(name) for name in _OF_THE_HUB):
        return put_by
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, **hub))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        if hub.get("local_files_only"):
            raise CheckpointError(
                f"{source}: not on this machine, and nothing is downloaded unasked; run: "
                f"omni fetch-bases {source}"
            ) from None
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{source}: not a local folder, and the hub did not give it ({reason}); check the name "
            "and the network, or download it yourself and give the folder"
        ) from None


def shipped(source: str) -> Path | None:
    """The folder of a checkpoint that comes with the package; None for any other name.

    A checkpoint at a path of that name is meant before it. Raises CheckpointError for one whose
    weights do not come with this version.
    """
    if source not in SHIPPED or (Path(source) / "config.json").is_file():
        return None
    folder = SHIPPED[source]
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{source}: its weights do not come with this version; make them by omni-train "
            f"{source} DIR, and give DIR/checkpoint"
        )
    return folder


def on_this_machine(source: str) -> Path | None:
    """A file or folder of that path, or what `omni fetch-bases` has put by for that hub id."""
    path = local_path(source)
    if path.exists():
        return path
    fetched = bases_folder() / source
    return fetched if not path.is_absolute() and (fetched / "config.json").is_file() else None


def local_path(name: str) -> Path:
    """A path as a user types it, "~" for the home folder; of nobody known, as it stands."""
    return Path(os.path.expanduser(name))  # pathlib's own raises RuntimeError for that one


def is_hub_id(source: str) -> bool:
    """Whether a name reads as OWNER/NAME, and is no path."""
    return not source.startswith((".", "/", "~")) and source.count("/") == 1


def bases_folder() -> Path:
    """Where fetched bases lie, as OWNER/NAME: $OMNI_BASES, or in the user's cache folder."""
    named = os.environ.get("OMNI_BASES")
    return local_path(named) if named else cache_folder() / "bases"


def hub_name(source: str) -> str:
    """openai-whisper's short name -> its hub id; anything else as it is."""
    return f"openai/whisper-{source}" if source in OPENAI_NAMES else source


def part_folder(source: str | Path, part: str) -> Path:
    """Where a part lies, such as "units" or "vocoder": in a checkpoint that carries it, nano and
    mini by name, or `source` itself."""
    folder = shipped(str(source)) or Path(source)
    return folder / part if (folder / part).is_dir() else folder
