"""`--recipe auto`: which recipe suits a base of this size, and the name to tell it by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

from omni.config import OmniConfig
from omni.files import UserError, read_json, shipped
from train.stages import STAGE1, STAGE2, Stage1, Stage2

T = TypeVar("T")

AUTO = "auto"
LANGUAGE_MODEL = ("lora", "full", "frozen")  # what may train of it; the first unless asked
SMALL = 100_000_000  # parameters of the LLM: below, it learns as the nano does


def choose_stage1(
    name: str, text_config: Callable[[], PretrainedConfig], train_llm: str | None = None
) -> tuple[str, Stage1]:
    """The recipe of that name, and the name.

    text_config: reads the LLM's, where its size matters. auto: by its number of parameters:
    nano's schedule below 100 million, the published one above; LoRA unless `train_llm` (lora,
    full, frozen) says otherwise. With another name, train_llm changes what the recipe trains of
    the LLM.
    Raises UserError for another name.
    """
    if train_llm is not None and train_llm not in LANGUAGE_MODEL:
        raise UserError(f"train_llm={train_llm!r}: must be one of {', '.join(LANGUAGE_MODEL)}")
    tuned = train_llm or LANGUAGE_MODEL[0]
    if name == AUTO:
        small = count(meta_language_model(text_config())) < SMALL
        name = "nano" if small else {"full": "published"}.get(tuned, tuned)
    elif train_llm is None:
        return name, _named(STAGE1, name)()
    return name, replace(_named(STAGE1, name)(), language_model=tuned)


def choose_stage2(name: str, checkpoint: str | Path) -> tuple[str, Stage2]:
    """The recipe of that name, and the name.

    auto: the widest decoder that is not wider than the checkpoint's LLM, else the narrowest.
    Raises UserError for another name.
    """
    if name == AUTO:
        text = read_json(Path(checkpoint) / "config.json")["text_config"]
        widths = {known: make().width for known, make in STAGE2.items()}
        fitting = {known: w for known, w in widths.items() if w <= int(text["hidden_size"])}
        name = (
            max(fitting, key=fitting.__getitem__)
            if fitting
            else min(widths, key=widths.__getitem__)
        )
    return name, _named(STAGE2, name)()


def _named(table: Mapping[str, T], name: str) -> T:
    if name not in table:
        raise UserError(f"recipe={name!r}: must be {AUTO} or one of {', '.join(table)}")
    return table[name]


def config_of(checkpoint: str | Path) -> OmniConfig:
    """The configuration of a folder, a hub id or what ships; nothing else of it is read."""
    return OmniConfig.from_pretrained(shipped(str(checkpoint)) or checkpoint)


def meta_language_model(config: PretrainedConfig) -> nn.Module:
    """A causal LM of these sizes, without weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def count(module: nn.Module) -> int:
    """Parameters of a module, tied ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
