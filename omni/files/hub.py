"""A folder on this machine or on the hub, by one name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omni.files.folders import CheckpointError

OPENAI_NAMES = (
    "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en",
    "large-v1", "large-v2", "large-v3", "large-v3-turbo",
)  # fmt: skip

# What transformers' `from_pretrained` says of a hub id, in huggingface_hub's words.
HUB_KEYWORDS = ("revision", "token", "cache_dir", "local_files_only", "force_download")


def fetch(source: str, **hub: Any) -> Path:
    """A local folder or file as it is; anything else is a hub id, fetched by huggingface_hub.

    hub: HUB_KEYWORDS, for a hub id. Raises CheckpointError if it is neither.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise CheckpointError(
            f"{source}: no such file or folder, and no hub id (OWNER/NAME) either; check the path"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, **hub))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{source}: not a local folder, and the hub did not give it ({reason}); check the name "
            "and the network, or download it yourself and give the folder"
        ) from None


def hub_name(source: str) -> str:
    """openai-whisper's short name -> its hub id; anything else as it is."""
    return f"openai/whisper-{source}" if source in OPENAI_NAMES else source
