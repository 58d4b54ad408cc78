"""openai-whisper's .pt -> the encoder's folder: config.json and model.safetensors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from omni.files import CheckpointError, check_weights, replace_folder
from omni.foreign.stream import Progress, StoredTensor, total_bytes, write_safetensors
from omni.foreign.torch_files import read_mapping, state_dict
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig, write_encoder_config

# transformers' names -> openai-whisper's; convolutions are called alike.
_RENAMED = (
    (r"^layers\.", "blocks."),
    (r"\.fc1\.", ".mlp.0."),
    (r"\.fc2\.", ".mlp.2."),
    (r"\.final_layer_norm\.", ".mlp_ln."),
    (r"\.self_attn_layer_norm\.", ".attn_ln."),
    (r"\.self_attn\.q_proj\.", ".attn.query."),
    (r"\.self_attn\.k_proj\.", ".attn.key."),
    (r"\.self_attn\.v_proj\.", ".attn.value."),
    (r"\.self_attn\.out_proj\.", ".attn.out."),
    (r"^layer_norm\.", "ln_post."),
    (r"^embed_positions\.weight$", "positional_embedding"),
)
_DIMENSIONS = ("n_mels", "n_audio_state", "n_audio_layer", "n_audio_head", "n_audio_ctx")


@dataclass(frozen=True)
class EncoderWeights:
    """A Whisper encoder that still lies in its file; tensors by transformers' names."""

    config: SpeechEncoderConfig
    tensors: dict[str, StoredTensor]

    @property
    def nbytes(self) -> int:
        return total_bytes(self.tensors)

    def write(self, folder: str | Path, progress: Progress | None = None) -> None:
        """The folder that `load_speech_encoder` reads; aside first, then renamed."""
        with replace_folder(folder) as aside:
            self.write_into(aside, progress)

    def write_into(self, folder: Path, progress: Progress | None = None) -> None:
        """The same files in a folder that is there."""
        write_encoder_config(self.config, folder)
        write_safetensors(folder / "model.safetensors", self.tensors, progress)


def openai_name(name: str) -> str:
    """transformers' name of an encoder's weight -> openai-whisper's."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def expected_encoder(config: SpeechEncoderConfig) -> dict[str, torch.Tensor]:
    """Names and shapes (on the meta device) of the encoder's weights."""
    with torch.device("meta"):
        return SpeechEncoder(config).state_dict()


def read_whisper(path: str | Path) -> EncoderWeights:
    """The encoder of an openai-whisper checkpoint, checked but unread; the decoder is left out.

    Raises CheckpointError, naming what is wrong with the file.
    """
    what = "openai-whisper checkpoint"
    content = read_mapping(path, "dims", "model_state_dict", kind=what)
    dims, state = content["dims"], state_dict(content, "model_state_dict", path)
    for name in _DIMENSIONS:
        if not isinstance(dims, dict) or not isinstance(dims.get(name), int):
            raise CheckpointError(f"{path}: no {what}, for dims.{name} is no number")
    config = SpeechEncoderConfig(
        n_mels=dims["n_mels"],
        width=dims["n_audio_state"],
        layers=dims["n_audio_layer"],
        heads=dims["n_audio_head"],
        ffn=4 * dims["n_audio_state"],
        max_frames=dims["n_audio_ctx"],
    )
    names = {name: f"encoder.{openai_name(name)}" for name in expected_encoder(config)}
    expected = {names[name]: tensor for name, tensor in expected_encoder(config).items()}
    found = {name: tensor for name, tensor in state.items() if name.startswith("encoder.")}
    check_weights(expected, found, where=str(path))
    return EncoderWeights(config, {name: found[foreign] for name, foreign in names.items()})
