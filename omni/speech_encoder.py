"""Stage 1 of 5, the ears: a frozen Whisper encoder that encodes no more than was said.

The layers are transformers' own; the forward is ours, because Whisper's insists on 30 s of
input. Audio of n frames uses the first n positions, so a 3 s question costs 3 s. Parameter names
are those of transformers' `WhisperEncoder`: its state dict loads unchanged.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

from omni.audio import encoder_frames
from omni.checkpoint import replace_folder
from omni.stages import Frames, lengths_to_mask


class SpeechEncoder(nn.Module):
    """Log-mel -> frames at 50 Hz (Radford et al. 2022, the encoder half).

    block_frames: None looks at the whole utterance, as Whisper was trained; a number restricts
    each block of that many frames to itself and what came before.
    """

    def __init__(self, config: WhisperConfig, *, block_frames: int | None = None) -> None:
        super().__init__()
        if block_frames is not None and block_frames < 1:
            raise ValueError(
                f"block_frames={block_frames}: must be at least 1; None looks at the whole input"
            )
        # A copy: the mask below is a dense one, whatever kernel the language model asks for.
        self.config = config = copy.deepcopy(config)
        config._attn_implementation = "sdpa"
        self.block_frames = block_frames
        self.width = config.d_model
        self.max_frames = config.max_source_positions
        self.conv1 = nn.Conv1d(config.num_mel_bins, self.width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(self.width, self.width, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(self.max_frames, self.width)
        self.layers = nn.ModuleList(
            WhisperEncoderLayer(config) for _ in range(config.encoder_layers)
        )
        self.layer_norm = nn.LayerNorm(self.width)

    def forward(self, input_features: Tensor, input_features_mask: Tensor) -> Frames:
        """Encode a padded batch; each row comes out as if it had been alone.

        input_features: [B, n_mels, M] float; input_features_mask: [B, M] bool.
        Returns [B, F, D] with F = ceil(M / 2).
        Raises ValueError if a row has more frames than the encoder has positions.
        """
        mel_mask = input_features_mask.bool()
        lengths = encoder_frames(mel_mask.sum(-1))
        if int(lengths.max()) > self.max_frames:
            raise ValueError(
                f"{int(lengths.max()) / 50:.1f} s of audio: this encoder has positions for "
                f"{self.max_frames / 50:.0f} s; split the question"
            )
        # Padding must be zero before each convolution, as it would be at the end of a lone row.
        x = input_features.to(self.conv1.weight.dtype) * mel_mask[:, None, :]
        x = F.gelu(self.conv1(x)) * mel_mask[:, None, :]
        x = F.gelu(self.conv2(x)).transpose(1, 2)[:, : self.max_frames]  # [B, F, D]
        x = x + self.embed_positions.weight[: x.shape[1]].to(x.dtype)
        attend = self._attention_mask(lengths, x.shape[1], x.dtype)
        for layer in self.layers:
            x = layer(x, attend)
        return Frames(self.layer_norm(x), lengths)

    def _attention_mask(self, lengths: Tensor, size: int, dtype: torch.dtype) -> Tensor | None:
        """[B, 1, F, F] additive, or None where everything may look at everything."""
        if self.block_frames is None and int(lengths.min()) == size:
            return None
        allowed = lengths_to_mask(lengths, size)[:, None, None, :].expand(-1, 1, size, size)
        if self.block_frames is not None:
            block = torch.arange(size, device=lengths.device) // self.block_frames
            allowed = allowed & (block[None, :] <= block[:, None])
        # A large finite value: rows of pure padding would turn to NaN under -inf.
        return torch.zeros(allowed.shape, dtype=dtype, device=lengths.device).masked_fill(
            ~allowed, torch.finfo(dtype).min
        )


def whisper_config(
    *, n_mels: int, width: int, layers: int, heads: int, ffn: int, max_frames: int = 1500
) -> WhisperConfig:
    """A Whisper encoder's configuration in the words of this project."""
    return WhisperConfig(
        num_mel_bins=n_mels,
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=ffn,
        max_source_positions=max_frames,
    )


def save_speech_encoder(
    encoder: SpeechEncoder, folder: str | Path, *, dtype: torch.dtype = torch.float16
) -> None:
    """Write config.json and model.safetensors as a transformers WhisperEncoder folder.

    dtype: of the weights on disk; published Whisper weights fit fp16 exactly.
    """
    with replace_folder(folder) as aside:
        encoder.config.architectures = ["WhisperEncoder"]
        encoder.config.save_pretrained(aside)
        weights = {
            name: value.to("cpu", dtype).contiguous()
            for name, value in encoder.state_dict().items()
        }
        save_file(weights, aside / "model.safetensors", metadata={"format": "pt"})
