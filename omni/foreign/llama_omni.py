"""A published LLaMA-Omni checkpoint -> a checkpoint of ours, streamed tensor by tensor.

What its weights have always seen becomes settings of the new config.json: two BOS, 30 s of
padding, the LLM's rotary scaling in a unit decoder of its own head size.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerFast

from omni.about import write_card
from omni.config import OmniConfig
from omni.files import CheckpointError, check_weights, read_json, replace_folder, write_tensors
from omni.foreign.llama_omni_format import (
    PREFIXES,
    check_supported,
    expected_parts,
    foreign_names,
    omni_config,
)
from omni.foreign.stream import Progress, read_folder, total_bytes, write_folder
from omni.foreign.vocoder import VocoderWeights
from omni.foreign.whisper import EncoderWeights, expected_encoder, openai_name, read_whisper
from omni.prompt import add_speech_token, special_id
from omni.speech_encoder import SpeechEncoderConfig

log = logging.getLogger(__name__)

# Llama 3's turns, as the original lays them out: it trims nothing.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}"
    "<|end_header_id|>\n\n{{ message['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
PAD_TOKEN = "<|finetune_right_pad_id|>"


@dataclass(frozen=True)
class LlamaOmni:
    """A published checkpoint, checked but unread. parts: by our names, per part of the model."""

    config: OmniConfig
    parts: dict[str, dict[str, Tensor]]
    encoder: EncoderWeights
    tokenizer: PreTrainedTokenizerFast
    generation: GenerationConfig
    vocoder: VocoderWeights | None

    @property
    def nbytes(self) -> int:
        """Bytes of all parts, speech encoder and vocoder among them."""
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
                    write_folder(language_model, tensors, progress)
                    continue
                write_tensors(aside / f"{name}.safetensors", tensors)
                if progress is not None:
                    progress(total_bytes(tensors))
            self.encoder.write(aside / "speech_encoder", progress)
            if self.vocoder is not None:
                self.vocoder.write(aside / "vocoder", progress)
            self.tokenizer.save_pretrained(aside)
            self.generation.save_pretrained(aside)
            self.config.save_pretrained(aside)
            write_card(aside, title=Path(folder).resolve().name)


def read_llama_omni(
    folder: str | Path,
    *,
    whisper: str | Path | None = None,
    vocoder: VocoderWeights | None = None,
) -> LlamaOmni:
    """Everything that the conversion needs, checked before a byte is written.

    whisper: the encoder's openai-whisper file, which wins over an encoder among the weights; None
        takes the one among the weights, else the file that config.json names (seen from the
        working directory, the folder, or its parent).
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
    config.text_config.dtype = outside["model.embed_tokens.weight"].dtype
    generation = _generation(folder, raw, special_id(tokenizer, "pad"))
    return LlamaOmni(config, parts, encoder, tokenizer, generation, vocoder)


def _encoder(
    folder: Path,
    raw: Mapping[str, Any],
    whisper: str | Path | None,
    inside: Mapping[str, Tensor],
) -> EncoderWeights:
    """The given file; without one what lies inside; without that the file that config.json names.

    The original always rebuilds the encoder from its file, so a given one wins over the inside.
    """
    if whisper is None and inside:
        return _encoder_inside(folder, inside)
    named = str(raw.get("speech_encoder", ""))
    places = [Path(named), folder / named, folder.parent / named] if named else []
    file = Path(whisper) if whisper else next((p for p in places if p.is_file()), None)
    if file is None:
        raise CheckpointError(
            f"{folder}: no speech encoder inside, and its file {named!r} was not found; give "
            "it with --whisper FILE"
        )
    given = read_whisper(file)
    if inside and (differing := _count_differing(given, inside)):
        log.warning(
            "%s: %d of %d tensors differ from those of the speech encoder in %s; the file is used "
            "(leave --whisper out to use what lies inside)",
            file, differing, len(given.tensors), folder,
        )  # fmt: skip
    return given


def _encoder_inside(folder: Path, inside: Mapping[str, Tensor]) -> EncoderWeights:
    """Sizes are read off the weights: config.json says only the width. Whisper's heads are 64."""
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
    config = SpeechEncoderConfig(
        n_mels=n_mels, width=width, layers=layers, heads=max(1, width // 64), ffn=4 * width,
        max_frames=max_frames,
    )  # fmt: skip
    names = {name: prefix + openai_name(name) for name in expected_encoder(config)}
    expected = {names[name]: tensor for name, tensor in expected_encoder(config).items()}
    check_weights(expected, inside, where=str(folder))
    return EncoderWeights(config, {name: inside[foreign] for name, foreign in names.items()})


def _count_differing(given: EncoderWeights, inside: Mapping[str, Tensor]) -> int:
    """How many tensors of `given` the checkpoint lacks, or has with another shape or value."""

    def same(name: str, tensor: Tensor) -> bool:
        stored = inside.get(PREFIXES["speech_encoder"] + openai_name(name))
        # Half precision: either may have been stored in fewer bits.
        return (
            stored is not None
            and stored.shape == tensor.shape
            and torch.equal(stored.half(), tensor.half())
        )

    return sum(not same(name, tensor) for name, tensor in given.tensors.items())


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
