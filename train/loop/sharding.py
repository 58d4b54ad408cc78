"""DeepSpeed and FSDP, which keep a part of the weights in each process: their JSON files.

Whatever a file says, weights are gathered when they are saved: a checkpoint loads anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from omni.files import UserError

# Sizes that transformers fills in from the width of the model, where a file says "auto".
BY_WIDTH = (
    "reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold",
)  # fmt: skip


def deepspeed_config(path: str | Path, module: nn.Module) -> dict[str, Any]:
    """A DeepSpeed file as the Trainer takes it for this module.

    Raises UserError if it can't be read.
    """
    config = read_options(path)
    zero = config.get("zero_optimization", {})
    if zero.get("stage") == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if not hasattr(module, "config"):  # DeepSpeed's own sizes will do for what is so small
        for name in BY_WIDTH:
            if zero.get(name) == "auto":
                del zero[name]
    return config


def fsdp_config(path: str | Path, module: nn.Module) -> dict[str, Any]:
    """An FSDP file as the Trainer takes it for this module, whose layers it need not name.

    Raises UserError if it can't be read, or asks for what can't be done.
    """
    config = {name.removeprefix("fsdp_"): value for name, value in read_options(path).items()}
    if int(config.setdefault("version", 2)) != 2:
        raise UserError(f"{path}: version={config['version']!r}: must be 2, torch's fully_shard")
    if str(config.get("cpu_ram_efficient_loading", False)).lower() == "true":
        raise UserError(
            f"{path}: cpu_ram_efficient_loading=true: every process reads the weights itself, and "
            "what an LLM ties would come apart; leave it out"
        )
    named: set[str] = set()
    for part in module.modules():
        named.update(getattr(part, "_no_split_modules", None) or ())
    layers = sorted(named & {type(part).__name__ for part in module.modules()})
    if layers:
        config.setdefault("transformer_layer_cls_to_wrap", layers)
    elif "transformer_layer_cls_to_wrap" not in config:  # a small module of our own
        config["auto_wrap_policy"] = "NO_WRAP"
    return config | {"state_dict_type": "FULL_STATE_DICT"}


def check_parts(checkpoint: str | None, processes: int) -> None:
    """Raise UserError if DeepSpeed has left a checkpoint in parts for another number of processes.

    It can't deal them out anew.
    """
    if checkpoint is None:
        return
    parts = len([*Path(checkpoint).glob("rng_state*.pth")])  # each process leaves one
    if parts != processes:
        raise UserError(
            f"{checkpoint}: left by {parts} processes, this run has {processes}: DeepSpeed goes on "
            f"with as many; start {parts}, or begin anew by --restart"
        )


def read_options(path: str | Path) -> dict[str, Any]:
    """A JSON object. Raises UserError if there is none."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); give a file like those in "
                        "examples/deepspeed") from None  # fmt: skip
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds {type(value).__name__}, must be an object")
    return value
