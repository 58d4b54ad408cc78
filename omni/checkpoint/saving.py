"""save_pretrained: a checkpoint folder names its frozen bases, and carries whatever has changed.

config.json                  parts, sizes, bases by name
speech_adapter.safetensors   unit_decoder.safetensors (after stage 2)
speech_encoder/              if it has no base, is not its base any more, or all is to be carried;
                             or LoRA of peft's on its base
language_model/              likewise; or an adapter of peft's, with base/ below it where needed
vocoder/  units/             what turns units into sound, and speech into units
generation_config.json       sampling and chunk schedule
tokenizer files, chat template, README.md (model card)
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from omni.about import NAME as CARD
from omni.about import is_generated, write_card
from omni.checkpoint.adapters import below_adapters, save_language_model
from omni.checkpoint.encoder_lora_files import save_encoder_lora
from omni.checkpoint.named import base_digest
from omni.checkpoint.touched import touched
from omni.config import OmniConfig
from omni.files import CheckpointError, link_or_copy, read_json, replace_folder, write_tensors
from omni.language_model import is_lora
from omni.processor import OmniProcessor
from omni.speech_encoder import save_speech_encoder
from omni.vocoder import save_vocoder

if TYPE_CHECKING:
    from omni.model import OmniForConditionalGeneration

BASES = ("speech_encoder", "language_model")
# Files of a checkpoint that the model itself never opens, and that belong to it.
COMPANIONS = (
    "units", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*",
    "vocab*", "merges.txt", "*.model", "*.tiktoken", "LICENSE*",
)  # fmt: skip
# What the model writes; whatever else an earlier checkpoint of this name holds is kept.
WRITTEN = (
    "config.json", "speech_adapter.safetensors", "unit_decoder.safetensors", *BASES, "vocoder",
    "generation_config.json",
)  # fmt: skip
# What transformers' Trainer puts into its output folder before, and beside, a model.
TRAINERS = (
    *COMPANIONS, CARD, "checkpoint-*", "runs", "logs", "*.bin", "*.pt", "*.pth",
    "trainer_state.json", "all_results.json", "*_results.json",
)  # fmt: skip
# Keywords of transformers' that have one possible value here: why.
FIXED: dict[str, tuple[Any, str]] = {
    "safe_serialization": (True, "weights are written as safetensors alone; leave it out"),
    "variant": (None, "a checkpoint's files have one name each; give another folder"),
    "save_peft_format": (True, "adapters are written in peft's format alone; leave it out"),
    "save_original_format": (True, "the LLM is written by its published names; leave it out"),
    "distributed_checkpoint": (False, "give the gathered weights as state_dict instead"),
}


def save_pretrained(
    model: OmniForConditionalGeneration,
    folder: str | Path,
    *,
    push_to_hub: bool = False,
    repo_id: str | None = None,
    token: str | bool | None = None,
    is_main_process: bool = True,
    **kwargs: Any,
) -> None:
    """`write_checkpoint` with the keywords of transformers' `save_pretrained`.

    push_to_hub: upload it as well, see `push`, which also takes repo_id (default: the name of the
    folder),
    token, commit_message, private, revision, create_pr and tags.
    safe_serialization=False, variant and others that have no meaning here are refused by name.
    """
    from omni.checkpoint.hub import KEYWORDS, push

    if not is_main_process:
        return
    upload = {name: kwargs.pop(name) for name in KEYWORDS if name in kwargs}
    if (upload or repo_id) and not push_to_hub:
        raise ValueError(f"{', '.join(upload) or 'repo_id'}: say push_to_hub=True as well")
    for name, (only, remedy) in FIXED.items():
        value = kwargs.pop(name, only)
        if value != only:
            raise ValueError(f"{name}={value!r}: {remedy}")
    write_checkpoint(model, folder, **kwargs)
    if push_to_hub:
        kwargs["carry"] = folder
        push(model, repo_id or Path(folder).resolve().name, token=token, **upload, **kwargs)


def write_checkpoint(
    model: OmniForConditionalGeneration,
    folder: str | Path,
    *,
    self_contained: bool = False,
    portable: bool = False,
    dtype: torch.dtype | None = None,
    processor: OmniProcessor | None = None,
    carry: str | Path | None = None,
    metadata: Mapping[str, Any] | None = None,
    title: str | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
    max_shard_size: int | str = "50GB",
) -> None:
    """Write a checkpoint folder aside and rename it when complete.

    Encoder and LLM are carried unless each weight is that of the base that config.json names. The
    tokenizer and unit extractor of the checkpoint that the model was read from come along. An
    earlier checkpoint in `folder` is replaced; its other files stay, a model card that a person
    wrote among them.

    self_contained: carry all bases, LoRA merged. portable: carry those whose name is a folder of
    this machine, an encoder with its LoRA merged. dtype: of the stored weights, None keeps theirs.
    carry: a folder whose units/, tokenizer and model card come along. metadata: of the model card,
    in the hub's words (license, datasets, language, tags). title: the card's, default the folder's
    name. state_dict: the weights, where a Trainer has gathered them; a part that it lacks is asked
    of the model.
    max_shard_size: of the LLM's files.
    Raises CheckpointError for a folder that holds something else.
    """
    folder = Path(folder)
    _check_target(folder)
    parts = _parts(model, state_dict)
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.bases = {
        name: base
        for name, base in config.bases.items()
        if not self_contained and not _is_local(base, portable, folder)
    }
    language_model, plain = below_adapters(model.language_model, parts["language_model"])
    own = {
        name: name not in config.bases or touched(name, config.bases[name], module, weights)
        for name, module, weights in (
            ("speech_encoder", model.speech_encoder, parts["speech_encoder"]),
            ("language_model", language_model, plain),
        )
    }
    # A checkpoint's own digests stay: it may have been read on bases that are not quite those.
    config.base_digests = {
        base: config.base_digests.get(base) or base_digest(part, base)
        for part, base in config.bases.items()
        if not own[part]
    }
    origin = model.read_from
    with replace_folder(folder) as aside:
        config.save_pretrained(aside)
        for name in ("speech_adapter", "unit_decoder"):
            if part := parts[name]:
                write_tensors(aside / f"{name}.safetensors", part, dtype=dtype)
        if own["speech_encoder"]:
            save_speech_encoder(
                model.speech_encoder, aside / "speech_encoder", dtype=dtype,
                weights=parts["speech_encoder"],
            )  # fmt: skip
        elif model.speech_encoder.lora is not None:
            save_encoder_lora(
                model.speech_encoder, aside / "speech_encoder", dtype=dtype,
                base=config.bases["speech_encoder"],
            )  # fmt: skip
        if own["language_model"] or is_lora(model.language_model):
            save_language_model(
                model.language_model,
                aside / "language_model",
                parts["language_model"],
                dtype=dtype,
                merge=self_contained,
                base=None if own["language_model"] else config.bases["language_model"],
                max_shard_size=max_shard_size,
                gathered=state_dict is not None,
            )
        if model.vocoder is not None:
            save_vocoder(model.vocoder, aside / "vocoder", dtype=dtype, weights=parts["vocoder"])
        model.generation_config.save_pretrained(aside)
        if processor is not None:
            processor.save_pretrained(aside)
        _keep(folder, aside)
        for source in (carry, None if origin is None else origin.folder):
            if source is not None:
                _bring(Path(source), aside)
        if carry is not None:
            _bring_card(Path(carry), aside)
        names = list(model.config.bases.values())
        write_card(
            aside,
            title=title or folder.resolve().name,
            bases=names if origin is None else [*names, origin.name],
            earlier=None if carry is None else Path(carry),
            inherited=None if origin is None else origin.folder,
            metadata=metadata,
        )


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file; give a folder to save into")
    if not folder.is_dir():
        return
    config = folder / "config.json"
    if config.is_file():
        known = read_json(config).get("model_type") == OmniConfig.model_type
    else:
        known = all(
            any(fnmatch(entry.name, pattern) for pattern in TRAINERS) for entry in folder.iterdir()
        )
    if not known:
        raise CheckpointError(
            f"{folder}: not empty and no omni checkpoint; saving replaces, so give a new folder"
        )


def _parts(
    model: OmniForConditionalGeneration, state_dict: Mapping[str, Tensor] | None
) -> dict[str, dict[str, Tensor]]:
    """The weights of each part, by their names in it."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, module in model.named_children():
        prefix = f"{name}."
        given = {} if state_dict is None else state_dict
        parts[name] = {k[len(prefix) :]: w for k, w in given.items() if k.startswith(prefix)}
        parts[name] = parts[name] or dict(module.state_dict())
    return {"unit_decoder": {}, "vocoder": {}} | parts


def _is_local(base: str, portable: bool, target: Path) -> bool:
    """Whether the name will mean nothing to who reads the checkpoint."""
    path = Path(base).expanduser()
    if not path.exists():
        return False
    return portable or path.resolve().is_relative_to(target.resolve())  # replaced in a moment


def _keep(folder: Path, aside: Path) -> None:
    """What an earlier checkpoint holds beside the model; linked, for it may be large."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name not in WRITTEN and not (aside / entry.name).exists():
            _copy(entry, aside / entry.name, link=True)


def _bring(source: Path, aside: Path) -> None:
    for entry in sorted(source.iterdir()) if source.is_dir() else ():
        belongs = any(fnmatch(entry.name, pattern) for pattern in COMPANIONS)
        if belongs and not (aside / entry.name).exists():
            _copy(entry, aside / entry.name, link=False)


def _bring_card(source: Path, aside: Path) -> None:
    card = source / CARD
    if not card.is_file() or is_generated(card):
        return
    if not (aside / CARD).exists():
        shutil.copy2(card, aside / CARD)


def _copy(source: Path, target: Path, *, link: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=link_or_copy if link else shutil.copy2)
    elif source.is_file():
        (link_or_copy if link else shutil.copy2)(source, target)
