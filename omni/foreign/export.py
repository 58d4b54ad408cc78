"""A checkpoint of ours -> LLaMA-Omni's own format, streamed tensor by tensor.

The way back of omni/foreign/llama_omni.py. What that format cannot say is refused; that the
original always pads questions to 30 s and asks with two BOS is its reader's habit, not its file's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omni.config import OmniConfig
from omni.files import (
    CheckpointError,
    check_weights,
    read_json,
    read_tensors,
    replace_folder,
    write_json,
)
from omni.foreign.llama_omni_format import LLAMA_KEYS, PREFIXES, expected_parts, foreign_names
from omni.foreign.stream import Progress, read_folder, total_bytes, write_folder
from omni.foreign.whisper import expected_encoder, openai_name
from omni.prompt import SPEECH

ENCODER_FILE = "models/speech_encoder/large-v3.pt"  # the published config.json names it so


@dataclass(frozen=True)
class LlamaOmniExport:
    """What will be written. tensors: by the original's names."""

    source: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, as `write` will store them."""
        return total_bytes(self.tensors)

    def write(self, folder: str | Path, progress: Progress | None = None) -> None:
        """config.json, model.safetensors and the tokenizer; aside first, then renamed."""
        with replace_folder(folder) as aside:
            write_folder(aside, self.tensors, progress)
            write_json(aside / "config.json", self.config)
            generation = read_json(self.source / "generation_config.json")
            ends = {key: generation.get(key) for key in ("bos_token_id", "eos_token_id")}
            write_json(aside / "generation_config.json", ends)
            _write_tokenizer(self.source, aside)


def read_export(
    checkpoint: str | Path, *, encoder_file: str = ENCODER_FILE, encoder_inside: bool = False
) -> LlamaOmniExport:
    """Check that a checkpoint fits the format, and lay out its files.

    encoder_file: what config.json will name; the openai-whisper file itself is not written, for
        the original also wants the decoder that a checkpoint of ours does not have.
    encoder_inside: put the encoder's weights among the others as well.
    Raises CheckpointError for what the format cannot say.
    """
    folder = Path(checkpoint)
    config = OmniConfig.from_dict(read_json(folder / "config.json"))
    if not (folder / "language_model" / "config.json").is_file():
        raise CheckpointError(
            f"{folder}: its language model is a base by name or LoRA; save it whole first, by "
            "model.save_pretrained(DIR, self_contained=True)"
        )
    stored = {
        "language_model": read_folder(folder / "language_model"),
        "speech_adapter": read_tensors(folder / "speech_adapter.safetensors"),
    }
    if config.unit_decoder is not None:
        stored["unit_decoder"] = read_tensors(folder / "unit_decoder.safetensors")
    tensors: dict[str, Tensor] = {}
    names = foreign_names(config)
    for part, expected in expected_parts(config).items():
        if config.text_config.tie_word_embeddings and "lm_head.weight" not in stored[part]:
            expected.pop("lm_head.weight", None)
        check_weights(expected, stored[part], where=f"{folder}, {part}")
        tensors |= {names[part][name]: tensor for name, tensor in stored[part].items()}
    if encoder_inside:
        encoder = read_folder(folder / "speech_encoder")
        check_weights(expected_encoder(config.encoder), encoder, where=f"{folder}, encoder")
        prefix = PREFIXES["speech_encoder"]
        tensors |= {prefix + openai_name(name): tensor for name, tensor in encoder.items()}
    dtype = tensors["model.embed_tokens.weight"].dtype
    return LlamaOmniExport(folder, llama_omni_config(config, encoder_file, dtype), tensors)


def llama_omni_config(config: OmniConfig, encoder_file: str, dtype: torch.dtype) -> dict[str, Any]:
    """The original's config.json. dtype: of its weights.

    Raises CheckpointError for another LLM than Llama, and for a unit decoder that has more than the
    original's or turns its positions differently from the LLM: it takes both from one place.
    """
    text = config.text_config
    if text.model_type != "llama":
        raise CheckpointError(
            f"language model of type {text.model_type!r}: LLaMA-Omni's format knows only llama"
        )
    rope = dict(text.rope_parameters)
    theta = rope.pop("rope_theta")
    values: dict[str, Any] = {key: getattr(text, key) for key in LLAMA_KEYS if hasattr(text, key)}
    # The original copies this config for its unit decoder, whose heads have another size.
    if (head := values.pop("head_dim", None)) not in (
        None,
        text.hidden_size // text.num_attention_heads,
    ):
        raise CheckpointError(
            f"language model with head_dim={head}: LLaMA-Omni's format has hidden_size / heads only"
        )
    values |= {
        "rope_theta": theta,
        "rope_scaling": None if rope.get("rope_type") == "default" else rope,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "speech_encoder": encoder_file,
        "speech_encoder_type": "whisper",
        "speech_encoder_ds_rate": config.adapter.stack,
        "speech_encoder_hidden_size": config.audio_config.d_model,
        "speech_projector_type": "linear",
        "speech_normalize": False,
        "tokenizer_model_max_length": 4096,
        "tokenizer_padding_side": "right",
    }
    if config.encoder.blocks:
        raise CheckpointError(
            f"speech encoder with {config.encoder.blocks}: LLaMA-Omni's looks at the whole question"
        )
    if config.adapter.hidden != 2048:
        raise CheckpointError(
            f"speech_adapter.hidden={config.adapter.hidden}: LLaMA-Omni's adapter is 2048 wide"
        )
    if config.adapter.vocabulary:
        raise CheckpointError(
            f"speech_adapter.vocabulary={config.adapter.vocabulary}: LLaMA-Omni's adapter has no "
            "mixture of tokens; align without --token-mixture"
        )
    units = config.units
    if units is None:
        return values | {
            "model_type": "omni_speech_llama", "architectures": ["OmniSpeechLlamaForCausalLM"],
        }  # fmt: skip
    ours = ("step_embedding", "gate_fusion", "spelling")
    if more := [name for name in ours if getattr(units, name)]:
        raise CheckpointError(
            f"unit decoder with {' and '.join(more)}: LLaMA-Omni's format has none; train stage 2 "
            "without"
        )
    own = {"rope_type": "default", **units.rope_scaling}
    if (own, units.rope_theta, units.rms_norm_eps) != (rope, theta, text.rms_norm_eps):
        raise CheckpointError(
            "unit decoder: its rope_theta, rope_scaling or rms_norm_eps differ from the LLM's; "
            "LLaMA-Omni's format has one setting for both"
        )
    return values | {
        "model_type": "omni_speech2s_llama",
        "architectures": ["OmniSpeech2SLlamaForCausalLM"],
        "speech_generator_type": "ctc",
        "ctc_decoder_config": f"({units.layers},{units.width},{units.heads},{units.ffn})",
        "ctc_upsample_factor": units.upsample,
        "ctc_loss_weight": 1.0,
        "unit_vocab_size": units.num_units,
    }


def _write_tokenizer(source: Path, target: Path) -> None:
    """The tokenizer without `<speech>`, which the original never tokenises, in words that older
    transformers read."""
    tokenizer = read_json(source / "tokenizer.json")
    tokenizer["added_tokens"] = [
        token for token in tokenizer.get("added_tokens", []) if token["content"] != SPEECH
    ]
    merges = tokenizer["model"].get("merges", [])
    if not any(isinstance(m, str) or " " in "".join(m) for m in merges):
        # As tokenizers wrote them before 0.20; the original's transformers reads nothing newer.
        tokenizer["model"]["merges"] = [" ".join(merge) for merge in merges]
    # Not write_json: line breaks would triple the file.
    (target / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    settings: Mapping[str, Any] = read_json(source / "tokenizer_config.json")
    special = {key: settings[key] for key in ("bos_token", "eos_token") if settings.get(key)}
    write_json(target / "special_tokens_map.json", special)
    write_json(
        target / "tokenizer_config.json",
        special
        | {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": settings.get("model_max_length", 131_072),
            "clean_up_tokenization_spaces": settings.get("clean_up_tokenization_spaces", False),
            "model_input_names": ["input_ids", "attention_mask"],
        },
    )
