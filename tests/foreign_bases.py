"""Small bases in other people's formats, written by the formats' own rules."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from omni.speech_encoder import SpeechEncoder

CT2_TYPES = {torch.float32: 0, torch.int8: 1, torch.int16: 2, torch.float16: 4, torch.bfloat16: 5}


def ct2_variables(encoder: SpeechEncoder, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The variables of CTranslate2's WhisperSpec that make the encoder, and one of the decoder."""
    state = {name: value.to(dtype) for name, value in encoder.state_dict().items()}
    made: dict[str, torch.Tensor] = {
        "decoder/layer_norm/gamma": torch.ones(3, dtype=dtype),
        "encoder/num_heads": torch.tensor(encoder.config.heads, dtype=torch.int16),
        "encoder/position_encodings/encodings": state["embed_positions.weight"],
    }

    def put(ours: str, theirs: str, weight: str = "weight", bias: str = "bias") -> None:
        made[f"encoder/{theirs}/{weight}"] = state[f"{ours}.weight"]
        made[f"encoder/{theirs}/{bias}"] = state[f"{ours}.bias"]

    for name in ("conv1", "conv2"):
        put(name, name)
    put("layer_norm", "layer_norm", "gamma", "beta")
    for number in range(encoder.config.layers):
        ours, theirs = f"layers.{number}", f"layer_{number}"
        put(f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm", "gamma", "beta")
        put(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm", "gamma", "beta")
        put(f"{ours}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")
        put(f"{ours}.fc1", f"{theirs}/ffn/linear_0")
        put(f"{ours}.fc2", f"{theirs}/ffn/linear_1")
        q, k, v = (f"{ours}.self_attn.{part}_proj" for part in "qkv")
        no_bias = torch.zeros_like(state[f"{q}.bias"])
        made[f"encoder/{theirs}/self_attention/linear_0/weight"] = torch.cat(
            [state[f"{part}.weight"] for part in (q, k, v)]
        )
        made[f"encoder/{theirs}/self_attention/linear_0/bias"] = torch.cat(
            [state[f"{q}.bias"], no_bias, state[f"{v}.bias"]]
        )
    return made


def write_ctranslate2(
    folder: Path,
    variables: Mapping[str, torch.Tensor],
    *,
    version: int = 6,
    kind: str = "WhisperSpec",
    count: int | None = None,
) -> Path:
    """A faster-whisper folder: config.json without sizes, and model.bin."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"alignment_heads": [[0, 0]], "lang_ids": []}')
    with (folder / "model.bin").open("wb") as file:
        file.write(struct.pack("<I", version) + _ct2_text(kind) + struct.pack("<I", 3))
        file.write(struct.pack("<I", len(variables) if count is None else count))
        for name, value in sorted(variables.items()):
            data = value.contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else (
                struct.pack("<h", int(value))
            )  # fmt: skip
            file.write(_ct2_text(name) + struct.pack("<B", value.dim()))
            file.write(struct.pack(f"<{value.dim()}I", *value.shape))
            file.write(struct.pack("<BI", CT2_TYPES[value.dtype], len(data)) + data)
        file.write(struct.pack("<I", 1) + _ct2_text("decoder/a") + _ct2_text("decoder/b"))
    return folder


def _ct2_text(text: str) -> bytes:
    content = text.encode() + b"\0"
    return struct.pack("<H", len(content)) + content


def write_gguf(
    path: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, kind: str = "F32"
) -> Path:
    """A GGUF file as llama.cpp's converter writes it for a Llama with a byte-level tokenizer.

    kind: of the matrices: F32, F16, Q8_0 or Q4_1; norms are F32.
    """
    import json

    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    rules = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(list(range(config.vocab_size)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if place in special else 1 for place in range(len(tokens))])
    merges = [" ".join(pair) if not isinstance(pair, str) else pair for pair in rules["merges"]]
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    matrices = getattr(gguf.GGMLQuantizationType, kind)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = _llama_cpp_order(name, value, config).float().numpy()
        if array.ndim == 1:
            writer.add_tensor(_gguf_name(name), array)
            continue
        packed = gguf.quants.quantize(np.ascontiguousarray(array), matrices)
        writer.add_tensor(_gguf_name(name), packed, raw_dtype=matrices)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _llama_cpp_order(name: str, value: torch.Tensor, config) -> torch.Tensor:
    """llama.cpp turns neighbouring pairs of a head; transformers turns halves."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if name.endswith(f"{part}.weight"):
            rows, width = value.shape
            return value.view(count, 2, rows // count // 2, width).transpose(1, 2).reshape(
                rows, width
            )  # fmt: skip
    return value


def _gguf_name(name: str) -> str:
    renamed = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "model.layers.": "blk.", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for ours, theirs in renamed.items():
        name = name.replace(ours, theirs)
    return name
