"""The bases that a checkpoint names: whether they are here, and whether they are those it knows.

A digest is of names, shapes and values at half precision, so it is the same for a float32 and a
float16 copy, and for each format that holds the same weights.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from omni.about import LORA_BASE
from omni.checkpoint.bases import base_config, encoder_weights, load_language_model
from omni.checkpoint.known import remedy
from omni.config import OmniConfig
from omni.files import (
    CheckpointError,
    cache_folder,
    digest_of,
    fetch,
    hub_name,
    is_hub_id,
    recall,
    remember,
)
from omni.foreign import read_folder

log = logging.getLogger(__name__)

PARTS = ("speech_encoder", "language_model")
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
TIED = "lm_head.weight"  # where the configuration ties it to the embeddings, few files hold it
QUICK = 20_000_000  # bytes that are digested anew each time
DIGITS = 12  # of 64 that a message shows


def needed_bases(folder: Path, config: OmniConfig) -> dict[str, str]:
    """Part -> base, of the parts that the checkpoint's folder does not carry whole."""
    needed = {}
    for part in (part for part in PARTS if part in config.bases):
        carried = folder / part
        is_lora = (carried / "adapter_config.json").is_file()
        if not carried.is_dir() or (is_lora and not (carried / LORA_BASE).is_dir()):
            needed[part] = config.bases[part]
    return needed


def require_bases(
    folder: Path, config: OmniConfig, *, name: str, parts: Collection[str] = PARTS
) -> None:
    """Raise CheckpointError, with the remedy, unless all that are hub ids lie on this machine.

    name: what the user calls the checkpoint; parts: those that are wanted of it.
    """
    needed = needed_bases(folder, config)
    names = [hub_name(base) for part, base in needed.items() if part in parts]
    if missing := [base for base in names if is_hub_id(base) and not is_here(base)]:
        raise CheckpointError(
            f"{name}: is built on {' and '.join(missing)}, not on this machine, and nothing is "
            f"downloaded unasked; run: omni fetch-bases {name}"
        )


def is_here(base: str) -> bool:
    """Whether the weights of a base can be read without a network."""
    try:
        path = fetch(base, local_files_only=True)
    except CheckpointError:
        return False
    return path.is_file() or any(next(path.glob(kind), None) for kind in WEIGHTS)


def warn_of_other_weights(folder: Path, config: OmniConfig) -> None:
    """One line for each base that is here and is not the one that the checkpoint was made with."""
    for part, base in needed_bases(folder, config).items():
        expected = config.base_digests.get(base)
        if expected is not None and (found := base_digest(part, base)) != expected:
            log.warning(
                "%s: the %s here has weights %s, this checkpoint was trained on %s; it may answer "
                "worse: %s",
                base, part, found[:DIGITS], expected[:DIGITS], remedy(base, expected),
            )  # fmt: skip


def base_digest(part: str, base: str) -> str:
    """64 hex digits of a base that is on this machine; of large ones they are remembered."""
    path = fetch(hub_name(base), local_files_only=True)
    files = [path] if path.is_file() else [f for kind in WEIGHTS for f in sorted(path.glob(kind))]
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    if sum(size for _, size, _ in states) < QUICK:
        return content_digest(base_tensors(part, base))
    memory, key = cache_folder() / "digests.json", f"{part} {path.resolve()}"
    state = digest_of(states)
    known = recall(memory)
    if known.get(key, {}).get("state") != state:
        known = {key: v for key, v in known.items() if Path(key.partition(" ")[2]).exists()}
        known[key] = {"state": state, "digest": content_digest(base_tensors(part, base))}
        remember(memory, known)
    return known[key]["digest"]


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """64 hex digits of names, shapes, and values at half precision."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        digest.update(f"{name} {list(value.shape)}\n".encode())
        value = value.half() if value.is_floating_point() else value
        digest.update(value.contiguous().numpy().data)
    return digest.hexdigest()


def base_tensors(part: str, base: str) -> Mapping[str, Tensor]:
    """The weights of a base on this machine, a tied one once; unread where the format allows."""
    if part == "speech_encoder":
        return encoder_weights(base, local_files_only=True).tensors
    try:
        stored = read_folder(fetch(base, local_files_only=True))
        tied = bool(base_config(base).get_text_config().tie_word_embeddings)
        return {name: tensor for name, tensor in stored.items() if not (tied and name == TIED)}
    except CheckpointError:  # another format, or LoRA on a base of its own
        model: Any = load_language_model(base, dtype="auto", local_files_only=True)
        tied = getattr(model, "all_tied_weights_keys", {})
        return {name: value for name, value in model.state_dict().items() if name not in tied}
