"""llama.cpp's GGUF files as causal LMs and tokenizers of transformers, their weights in full."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from omni.files import CheckpointError, UserError, need

SUFFIX = ".gguf"


def is_gguf(path: Path) -> bool:
    return path.suffix == SUFFIX and path.is_file()


def read_gguf_model(path: Path, **kwargs: Any) -> PreTrainedModel:
    """The LLM of a GGUF file, every weight written out.

    kwargs: of `from_pretrained`; without dtype, float32.
    Raises CheckpointError for a file that is damaged or of a model that transformers can't read.
    """
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    dtype = kwargs.pop("dtype", torch.float32)
    with _reading(path):
        both: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, output_loading_info=True
        )
    packed, loaded = both
    if missing := sorted(loaded["missing_keys"]):
        raise CheckpointError(
            f"{path}: missing weight {missing[0]} ({len(missing)} in all); get the file again"
        )
    model: Any = _without_quantisation(packed)
    if not kwargs.keys() - {"attn_implementation"}:
        if "attn_implementation" in kwargs:
            model.set_attn_implementation(kwargs["attn_implementation"])
        return model.to(torch.float32 if dtype == "auto" else dtype)
    with TemporaryDirectory() as scratch:  # spread over devices, or packed in another way
        model.save_pretrained(scratch)
        return AutoModelForCausalLM.from_pretrained(scratch, dtype=dtype, **kwargs)


def read_gguf_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a GGUF file, with its chat template."""
    with _reading(path):
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def read_gguf_config(path: Path) -> PretrainedConfig:
    """The sizes that a GGUF file tells; its weights stay unread."""
    with _reading(path):
        return AutoConfig.from_pretrained(path.parent, gguf_file=path.name)


def _without_quantisation(packed: Any) -> PreTrainedModel:
    """The same weights in a model that was never packed: transformers lets one that was neither
    be saved nor change its type."""
    config = copy.deepcopy(packed.config)
    for name in ("quantization_config", "_name_or_path"):
        if hasattr(config, name):
            delattr(config, name)
    with torch.device("meta"):
        model = type(packed)(config)
    model.to_empty(device="cpu")
    model.load_state_dict(packed.state_dict())
    buffers = dict(packed.named_buffers())
    for name, buffer in model.named_buffers():  # such as rotary frequencies, which no file holds
        buffer.copy_(buffers[name])
    model.tie_weights()
    model.generation_config = packed.generation_config
    return model.eval()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    need("gguf", "mini", "a GGUF file")
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # numpy, struct and gguf itself complain of damage in many ways
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{path}: not readable as GGUF ({reason}); download it again, or give the model's "
            "transformers folder"
        ) from None
