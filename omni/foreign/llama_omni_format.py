"""LLaMA-Omni's format, as both ways need it: names of weights, and config.json in our words."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from omni.config import OmniConfig
from omni.files import CheckpointError
from omni.foreign.whisper import EncoderWeights
from omni.prompt import LLAMA_OMNI_LINE, PromptConfig
from omni.speech_adapter import SpeechAdapter, SpeechAdapterConfig
from omni.unit_decoder import UnitDecoder, UnitDecoderConfig

SYSTEM = (
    "You are a helpful language and speech assistant. You are able to understand the speech "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
# Per part of the model: where its weights are in the original's names.
PREFIXES = {
    "language_model": "",
    "speech_encoder": "model.speech_encoder.",
    "speech_adapter": "model.speech_projector.",
    "unit_decoder": "speech_generator.",
}
MODEL_TYPES = {  # model_type -> whether it speaks
    "omni_speech2s_llama": True,
    "omni_speech_llama": False,
}
# Of config.json, what goes into Llama's own configuration unchanged.
LLAMA_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings",
    "initializer_range", "rms_norm_eps", "tie_word_embeddings", "attention_bias",
    "attention_dropout", "mlp_bias", "bos_token_id", "eos_token_id", "use_cache",
)  # fmt: skip


def check_supported(raw: Mapping[str, Any], where: str) -> None:
    """Raise CheckpointError for a model of another build."""
    for key, supported in (
        ("model_type", tuple(MODEL_TYPES)), ("speech_encoder_type", ("whisper",)),
        ("speech_projector_type", ("linear",)), ("speech_normalize", (False,)),
        ("speech_generator_type", ("ctc",)),
    ):  # fmt: skip
        value = raw.get(key) if key == "model_type" else raw.get(key, supported[0])
        if value not in supported:
            known = " or ".join(map(str, supported))
            raise CheckpointError(f"{where}: {key} is {value!r}; only {known} can be converted")


def omni_config(
    raw: Mapping[str, Any], encoder: EncoderWeights, speech_token_id: int, *, where: str
) -> OmniConfig:
    """The original's config.json in our words; its habits become named settings."""
    try:
        rope = {"rope_type": "default", **(raw.get("rope_scaling") or {})}
        rope["rope_type"] = rope.pop("type", rope["rope_type"])  # the name before 2024
        theta = float(raw.get("rope_theta", 10_000.0))
        text = LlamaConfig(
            **{key: raw[key] for key in LLAMA_KEYS if key in raw},
            rope_parameters={**rope, "rope_theta": theta},
        )
        text.architectures = ["LlamaForCausalLM"]
        decoder = None
        if MODEL_TYPES[raw["model_type"]]:
            layers, width, heads, ffn = _sizes(raw["ctc_decoder_config"])
            decoder = UnitDecoderConfig(
                input_width=text.hidden_size, width=width, layers=layers, heads=heads, ffn=ffn,
                num_units=raw["unit_vocab_size"], upsample=raw["ctc_upsample_factor"],
                rope_theta=theta, rope_scaling=rope, rms_norm_eps=text.rms_norm_eps,
            )  # fmt: skip
        width = raw["speech_encoder_hidden_size"]
        adapter = SpeechAdapterConfig(stack=raw["speech_encoder_ds_rate"])
    except KeyError as error:
        raise CheckpointError(f"{where}: {error} is missing; get the whole checkpoint") from None
    if width != encoder.config.width:
        raise CheckpointError(
            f"{where}: speech_encoder_hidden_size is {width}, the encoder has "
            f"{encoder.config.width}; give the encoder that the checkpoint was trained with"
        )
    return OmniConfig(
        audio_config=encoder.config.to_whisper(),
        text_config=text,
        speech_adapter=asdict(adapter),
        unit_decoder=asdict(decoder) if decoder else None,
        prompt=asdict(PromptConfig(speech_line=LLAMA_OMNI_LINE, system=SYSTEM, extra_bos=True)),
        speech_token_id=speech_token_id,
        pad_to_window=True,
        trained={"stage 1": ["speech_adapter", "language_model"]}
        | ({"stage 2": ["unit_decoder"]} if decoder else {}),
    )


def expected_parts(config: OmniConfig) -> dict[str, dict[str, torch.Tensor]]:
    """Names and shapes (on the meta device) of everything but the encoder."""
    with torch.device("meta"):
        parts = {
            "language_model": AutoModelForCausalLM.from_config(config.text_config).state_dict(),
            "speech_adapter": SpeechAdapter(
                config.adapter,
                input_width=config.audio_config.d_model,
                output_width=config.hidden_size,
            ).state_dict(),
        }
        if (units := config.units) is not None:
            parts["unit_decoder"] = UnitDecoder(units).state_dict()
    return parts


def foreign_names(config: OmniConfig) -> dict[str, dict[str, str]]:
    """Per part, our name of each weight -> the original's."""
    return {
        part: {name: PREFIXES[part] + name for name in names}
        for part, names in expected_parts(config).items()
    }


def _sizes(text: Any) -> tuple[int, int, int, int]:
    """ "(2,4096,32,11008)" -> layers, width, heads, FFN."""
    try:
        sizes = ast.literal_eval(text) if isinstance(text, str) else tuple(text)
        layers, width, heads, ffn = (int(size) for size in sizes)
    except (ValueError, TypeError, SyntaxError):
        raise CheckpointError(
            f"ctc_decoder_config {text!r}: must be (layers, width, heads, FFN)"
        ) from None
    return layers, width, heads, ffn
