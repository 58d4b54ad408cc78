"""Whether a part of the model is still its base, weight by weight, as the base's files hold it.

Nothing is remembered from loading: the files are mapped again, so loading costs nothing and a base
that has changed on disk since then is noticed too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from omni.checkpoint.bases import encoder_weights, load_language_model, load_speech_encoder
from omni.encoder_lora import merge_lora
from omni.files import CheckpointError, fetch
from omni.foreign import read_folder
from omni.language_model import is_quantised

log = logging.getLogger(__name__)

# Weights may have been rounded to one of these after loading, and widened again: that trains none.
ROUNDED = (torch.float16, torch.bfloat16)


def touched(name: str, base: str, module: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether `weights` are not those of `base`.

    name: "speech_encoder" or "language_model"; module: the part, without what peft put around it;
    weights: by the names that the part itself gives them.
    A base whose files can't be read here is told in a warning, and the part counts as touched:
    saved whole, it loses nothing.
    """
    try:
        if name == "speech_encoder":
            stored = _encoder_tensors(base, module)
        else:
            stored = _language_model_tensors(base, module, weights)
    except (CheckpointError, ImportError) as error:
        log.warning("%s is saved whole, for its base can't be compared: %s", name, error)
        return True
    if is_quantised(module):
        # Packed weights take no gradient; those that were left unpacked are compared.
        names = {key for key in stored.keys() & weights.keys() if _is_plain(weights[key])}
        names = {key for key in names if weights[key].shape == tuple(stored[key].shape)}
    elif stored.keys() != weights.keys():
        return True
    else:
        names = set(weights)
    return any(not _same(weights[key], stored[key]) for key in sorted(names))


def _encoder_tensors(base: str, module: Any) -> Mapping[str, Tensor]:
    """As it was loaded: with the LoRA in it that it remembers."""
    if module.lora is None:
        return encoder_weights(base, local_files_only=True).tensors
    plain = load_speech_encoder(base, local_files_only=True)
    return merge_lora(plain, module.lora, where=base).state_dict()


def _language_model_tensors(
    base: str, module: Any, weights: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """By the names of a loaded model, unread where the files use the same names."""
    folder = fetch(base, local_files_only=True)
    try:
        stored = read_folder(folder)
    except CheckpointError:  # another format, such as pickles or LoRA on a base of its own
        stored = {}
    for one, other in getattr(module, "all_tied_weights_keys", {}).items():
        for missing, source in ((one, other), (other, one)):
            if missing not in stored and source in stored:
                stored[missing] = stored[source]
    if stored.keys() == weights.keys() or (stored and is_quantised(module)):
        return stored
    # transformers renames the weights of some models as it reads them: let it.
    return load_language_model(base, dtype="auto", local_files_only=True).state_dict()


def _is_plain(weight: Tensor) -> bool:
    return weight.dtype in (torch.float64, torch.float32, *ROUNDED)


def _same(now: Tensor, stored: Tensor) -> bool:
    """Equal, once both have the precision of the weight in hand."""
    if now.is_meta:  # offloaded: read from its file at each use, and never written there
        return True
    if now.shape != tuple(stored.shape):
        return False
    then = stored.cpu()
    now = now.detach().cpu()
    if not now.is_floating_point():
        return torch.equal(now, then)
    return any(torch.equal(now, then.to(kind).to(now.dtype)) for kind in (now.dtype, *ROUNDED))
