"""A published LLaMA-Omni checkpoint -> a checkpoint of ours, streamed tensor by tensor.

What its weights have always seen becomes settings of the new config.json: two BOS, 30 s of
padding, the LLM's rotary scaling in a unit decoder of its own head size.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from omni.checkpoint import CheckpointError, check_weights, read_json, replace_folder
from omni.config import OmniConfig
from omni.convert.stream import (
    DTYPES,
    Progress,
    StoredTensor,
    read_folder,
    total_bytes,
    write_safetensors,
)
from omni.convert.vocoder import VocoderWeights
from omni.convert.whisper import EncoderWeights, expected_encoder, openai_name, read_whisper
from omni.prompt import LLAMA_OMNI_LINE, PromptConfig, add_speech_token
from omni.speech_adapter import SpeechAdapter, SpeechAdapterConfig
from omni.unit_decoder import UnitDecoder, UnitDecoderConfig

SYSTEM = (
    "You are a helpful language and speech assistant. You are able to understand the speech "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
# Llama 3's turns, as the original lays them out: it trims nothing.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}"
    "<|end_header_id|>\n\n{{ message['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
PAD_TOKEN = "<|finetune_right_pad_id|>"

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


@dataclass(frozen=True)
class LlamaOmni:
    """A published checkpoint, checked but unread. parts: by our names, per part of the model."""

    config: OmniConfig
    parts: dict[str, dict[str, StoredTensor]]
    encoder: EncoderWeights
    tokenizer: PreTrainedTokenizerFast
    generation: GenerationConfig
    vocoder: VocoderWeights | None

    @property
    def nbytes(self) -> int:
        stored = [*self.parts.values(), self.encoder.tensors]
        return sum(map(total_bytes, stored)) + (self.vocoder.nbytes if self.vocoder else 0)

    def write(self, folder: str | Path, progress: Progress | None = None) -> None:
        """The checkpoint folder that `omni ask` reads; aside first, then renamed."""
        with replace_folder(folder) as aside:
            language_model = aside / "language_model"
            language_model.mkdir()
            self.config.text_config.save_pretrained(language_model)
            self.generation.save_pretrained(language_model)
            for name, tensors in self.parts.items():
                if name == "language_model":
                    target = language_model / "model.safetensors"
                else:
                    target = aside / f"{name}.safetensors"
                write_safetensors(target, tensors, progress)
            self.encoder.write(aside / "speech_encoder", progress)
            if self.vocoder is not None:
                self.vocoder.write(aside / "vocoder", progress)
            self.tokenizer.save_pretrained(aside)
            self.generation.save_pretrained(aside)
            self.config.save_pretrained(aside)


def read_llama_omni(
    folder: str | Path,
    *,
    whisper: str | Path | None = None,
    vocoder: VocoderWeights | None = None,
) -> LlamaOmni:
    """Everything that the conversion needs, checked before a byte is written.

    whisper: the encoder's openai-whisper file; None looks where config.json says (seen from the
        working directory, the folder, or its parent), then among the weights themselves.
    Raises CheckpointError, naming the file, key or weight that is missing, surplus or misshaped.
    """
    folder = Path(folder)
    raw = read_json(folder / "config.json")
    check_supported(raw, f"{folder}/config.json")
    tensors = read_folder(folder)
    inside = {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith(PREFIXES["speech_encoder"])
    }
    encoder = _encoder(folder, raw, whisper, inside)
    tokenizer = _tokenizer(folder)
    config = omni_config(raw, encoder, add_speech_token(tokenizer), where=f"{folder}/config.json")
    names = foreign_names(config)
    outside = {name: tensor for name, tensor in tensors.items() if name not in inside}
    expected = {
        names[part][name]: tensor
        for part, shapes in expected_parts(config).items()
        for name, tensor in shapes.items()
    }
    if config.text_config.tie_word_embeddings and "lm_head.weight" not in outside:
        expected.pop("lm_head.weight", None)
    check_weights(expected, outside, where=str(folder))
    parts = {
        part: {name: outside[foreign] for name, foreign in members.items() if foreign in outside}
        for part, members in names.items()
    }
    stored = outside["model.embed_tokens.weight"].dtype
    config.text_config.dtype = DTYPES[stored]
    generation = _generation(folder, raw, int(tokenizer.pad_token_id))  # type: ignore[arg-type]
    return LlamaOmni(config, parts, encoder, tokenizer, generation, vocoder)


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
                units=raw["unit_vocab_size"], upsample=raw["ctc_upsample_factor"],
                rope_theta=theta, rope_scaling=rope, rms_norm_eps=text.rms_norm_eps,
            )  # fmt: skip
        width = raw["speech_encoder_hidden_size"]
        adapter = SpeechAdapterConfig(stack=raw["speech_encoder_ds_rate"])
    except KeyError as error:
        raise CheckpointError(f"{where}: {error} is missing; get the whole checkpoint") from None
    if width != encoder.config.d_model:
        raise CheckpointError(
            f"{where}: speech_encoder_hidden_size is {width}, the encoder has "
            f"{encoder.config.d_model}; give the encoder that the checkpoint was trained with"
        )
    return OmniConfig(
        audio_config=encoder.config,
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


def _encoder(
    folder: Path,
    raw: Mapping[str, Any],
    whisper: str | Path | None,
    inside: Mapping[str, StoredTensor],
) -> EncoderWeights:
    """The separate file if there is one, as in the original; the weights inside must agree."""
    named = str(raw.get("speech_encoder", ""))
    places = [Path(named), folder / named, folder.parent / named] if named else []
    file = Path(whisper) if whisper else next((p for p in places if p.is_file()), None)
    if file is None:
        if not inside:
            raise CheckpointError(
                f"{folder}: no speech encoder inside, and its file {named!r} was not found; give "
                "it with --whisper FILE"
            )
        return _encoder_inside(folder, inside)
    apart = read_whisper(file)
    if inside:
        _check_same(apart, inside, str(folder), str(file))
    return apart


def _encoder_inside(folder: Path, inside: Mapping[str, StoredTensor]) -> EncoderWeights:
    """Sizes are read off the weights: config.json says only the width. Whisper's heads are 64."""
    from omni.speech_encoder import whisper_config

    prefix = PREFIXES["speech_encoder"]
    layers = 0
    while f"{prefix}blocks.{layers}.attn.query.weight" in inside:
        layers += 1
    try:
        width, n_mels, _ = inside[f"{prefix}conv1.weight"].shape
        max_frames, _ = inside[f"{prefix}positional_embedding"].shape
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: the speech encoder inside is not whole ({error}); give --whisper FILE"
        ) from None
    config = whisper_config(
        n_mels=n_mels, width=width, layers=layers, heads=max(1, width // 64), ffn=4 * width,
        max_frames=max_frames,
    )  # fmt: skip
    names = {name: prefix + openai_name(name) for name in expected_encoder(config)}
    expected = {names[name]: tensor for name, tensor in expected_encoder(config).items()}
    check_weights(expected, inside, where=str(folder))
    return EncoderWeights(config, {name: inside[foreign] for name, foreign in names.items()})


def _check_same(
    apart: EncoderWeights, inside: Mapping[str, StoredTensor], where: str, file: str
) -> None:
    prefix = PREFIXES["speech_encoder"]
    own = {prefix + openai_name(name): tensor for name, tensor in apart.tensors.items()}
    check_weights(own, inside, where=f"{where}, its speech encoder against {file}")
    for name, tensor in own.items():
        # Either may have been stored in fewer bits.
        if not torch.equal(tensor.read().half(), inside[name].read().half()):
            raise CheckpointError(
                f"{where}: {name} is not that of {file}; give the encoder that the checkpoint was "
                "trained with by --whisper FILE"
            )


def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The original's, with what it lacks: a pad token and the chat template."""
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder}/tokenizer.json: no such file; get the whole checkpoint")
    # AutoTokenizer would ask for the unknown model_type.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    if tokenizer.pad_token_id is None:
        known = PAD_TOKEN in tokenizer.get_vocab()
        tokenizer.pad_token = PAD_TOKEN if known else tokenizer.eos_token
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _generation(folder: Path, raw: Mapping[str, Any], pad: int) -> GenerationConfig:
    """End tokens, and greedy: the original ignores the sampling fields of its own file."""
    file = folder / "generation_config.json"
    settings = {**raw, **(read_json(file) if file.is_file() else {})}
    return GenerationConfig(
        bos_token_id=settings.get("bos_token_id"),
        eos_token_id=settings.get("eos_token_id"),
        pad_token_id=pad,
        do_sample=False,
    )
