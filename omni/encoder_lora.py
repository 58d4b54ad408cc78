"""LoRA on a speech encoder (Hu et al. 2021): what adapts a frozen Whisper, kept apart from it.

peft makes the layers, names their weights and merges them. At load they are merged in memory, so
that an adapted encoder runs as any other; what is merged remembers the LoRA for the next save.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from omni.files import check_weights

if TYPE_CHECKING:
    from peft import LoraConfig, PeftMixedModel, PeftModel

    from omni.speech_encoder import SpeechEncoder

# The linear layers of attention and feed-forward net; the convolutions see no further than before.
TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True)
class EncoderLora:
    """config: peft's; tensors: by the names that peft gives them on disk."""

    config: LoraConfig
    tensors: Mapping[str, Tensor]


def lora_config(*, rank: int, alpha: int) -> LoraConfig:
    """LoRA of that rank on all of TARGETS."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS))


def wrap_encoder(encoder: SpeechEncoder, config: LoraConfig) -> PeftModel | PeftMixedModel:
    """The encoder with LoRA beside its layers, in place; fresh LoRA changes nothing."""
    from peft import get_peft_model

    # peft's types know transformers' models alone; what it does works on any module.
    module: Any = encoder
    return get_peft_model(module, config)


def lora_of(
    wrapped: PeftModel | PeftMixedModel, weights: Mapping[str, Tensor] | None = None
) -> EncoderLora:
    """Copies of the LoRA in a wrapped encoder; weights: its own, where they have been gathered."""
    from peft import get_peft_model_state_dict

    state = None if weights is None else dict(weights)
    tensors = get_peft_model_state_dict(wrapped, state, save_embedding_layers=False)
    kept = {name: value.detach().cpu().clone() for name, value in tensors.items()}
    return EncoderLora(wrapped.peft_config["default"], kept)  # pyright: ignore[reportArgumentType]  # ours is LoRA


def merge_lora(encoder: SpeechEncoder, lora: EncoderLora, *, where: str) -> SpeechEncoder:
    """The encoder with LoRA merged into its weights, in place; it does not remember it.

    where: named in errors. Raises CheckpointError for anything missing, surplus or misshaped.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    wrapped = wrap_encoder(encoder, lora.config)
    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    check_weights(expected, lora.tensors, where=where)
    set_peft_model_state_dict(wrapped, dict(lora.tensors))
    merged: Any = wrapped.merge_and_unload()
    return merged
