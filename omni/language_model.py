"""Part 3 of 5: any causal LM that transformers loads, asked for states and logits alike."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from omni.prompt import IGNORE
from omni.values import Frames

if TYPE_CHECKING:
    from peft import PeftConfig, PeftMixedModel, PeftModel

# What a causal LM calls its keys and values: "cache" since transformers 5.24, before that
# "past_key_values".
_NAMES = {field.name for field in fields(CausalLMOutputWithPast)}
CACHE_NAME = "cache" if "cache" in _NAMES else "past_key_values"


@dataclass(frozen=True)
class LanguageModelOutput:
    """layers: [B, T, H] of the embeddings and after each layer; logits: [B, T, vocabulary] float;
    cache: the keys and values so far, or None where none was asked for."""

    layers: tuple[Tensor, ...]
    logits: Tensor
    cache: Cache | None

    @property
    def hidden(self) -> Tensor:
        """[B, T, H]: the last layer's, after the final norm; what the unit decoder reads."""
        return self.layers[-1]


def run_language_model(
    model: nn.Module,
    embeddings: Tensor,
    attention_mask: Tensor | None = None,
    *,
    cache: Cache | None = None,
    use_cache: bool = False,
    **kwargs: Any,
) -> LanguageModelOutput:
    """One forward over embeddings.

    embeddings: [B, T, H] of the new positions; attention_mask: [B, past + T], 1 where real.
    """
    output = model(
        inputs_embeds=embeddings,
        attention_mask=attention_mask,
        use_cache=use_cache,
        output_hidden_states=True,
        return_dict=True,
        **{CACHE_NAME: cache},
        **kwargs,
    )
    return LanguageModelOutput(
        output.hidden_states, output.logits, output[CACHE_NAME] if use_cache else None
    )


def response_states(hidden: Tensor, predicts: Tensor) -> Frames:
    """The one place that aligns text with speech: the states that predict y_1 ... y_N.

    hidden: [B, T, H], the LLM's last hidden states; predicts: [B, T] bool, True at a position
    whose NEXT token belongs to the response (the last prompt position predicts y_1; the state
    that predicts the end token is included, the end token's own state is not).
    Returns [B, N, H]; rows may have different N, also 0.
    """
    rows = [states[chosen] for states, chosen in zip(hidden, predicts, strict=True)]
    return Frames(nn.utils.rnn.pad_sequence(rows, batch_first=True), predicts.sum(-1))


def response_tokens(labels: Tensor) -> Tensor:
    """[B, T] labels -> [B, N] ids y_1 ... y_N: what `response_states` predict; padded with 0."""
    rows = [row[row != IGNORE] for row in labels]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def embed(model: PreTrainedModel, ids: Tensor, placeholder: int) -> Tensor:
    """[B, T] ids -> [B, T, H]; the speech placeholder, which has no embedding, becomes zeros."""
    slots = ids == placeholder
    embedded = model.get_input_embeddings()(ids.masked_fill(slots, 0))
    return embedded.masked_fill(slots[..., None], 0.0)


def add_lora(
    model: PreTrainedModel, *, rank: int, alpha: int, targets: str = "all-linear"
) -> PeftModel | PeftMixedModel:
    """Wrap a causal LM with LoRA (Hu et al. 2021) by peft; only the LoRA weights train."""
    from peft import LoraConfig

    return wrap_in_lora(
        model,
        LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM"),
    )


def wrap_in_lora(model: PreTrainedModel, config: PeftConfig) -> PeftModel | PeftMixedModel:
    """What a configuration of peft makes of a causal LM."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft asks transformers 5.24 by an old name: nothing that a user of ours can mend.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        return get_peft_model(model, config)


def is_lora(model: nn.Module) -> bool:
    """Whether peft has wrapped this model."""
    return hasattr(model, "peft_config")


def is_quantised(model: nn.Module) -> bool:
    """Whether transformers has packed the weights of this model into fewer bits."""
    return getattr(model, "hf_quantizer", None) is not None


def merge_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """The LLM with its LoRA added into its weights, in place: for what answers and trains no more.

    Apart, each of its layers makes three products where one would do. An LLM without LoRA comes
    back as it is; so does one whose base is quantised, for packed weights would be rounded anew,
    and one whose adapters are transformers' own, of `add_adapter()`.
    """
    if not is_lora(model):
        return model
    from peft import LoraModel

    tuner: Any = model.base_model
    if not isinstance(tuner, LoraModel) or is_quantised(tuner.model):
        return model
    merged: Any = tuner.merge_and_unload()
    return merged


def end_tokens(generation_config: Any, tokenizer_eos: int | None) -> frozenset[int]:
    """Every id that ends a reply: the model's generation settings name one, several or none."""
    eos = getattr(generation_config, "eos_token_id", None)
    if eos is None:
        eos = tokenizer_eos
    if eos is None:
        raise ValueError("no end token: set eos_token_id in generation_config.json")
    return frozenset(eos if isinstance(eos, (list, tuple)) else [eos])
