"""Stage 1 of 5, the ears: a frozen Whisper encoder that encodes no more than was said.

The layers are transformers' own; the forward is ours, because Whisper's insists on 30 s of
input. Audio of n frames uses the first n positions, so a 3 s question costs 3 s. Parameter names
are those of transformers' `WhisperEncoder`: its state dict loads unchanged.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

from omni.audio import FRAME_RATE, encoder_frames
from omni.checkpoint import replace_folder, write_tensors
from omni.stages import Frames, lengths_to_mask


@dataclass(frozen=True)
class SpeechEncoderState:
    """One recording that is still being spoken.

    mel: [n_mels, m] log-mel from frame 2 * frames - 2 on (from 0 at the start), as far back as
    the convolutions of the next frame hear; frames: encoded so far;
    keys, values: [layers, 1, heads, frames, head_dim].
    """

    mel: Tensor
    frames: int
    keys: Tensor
    values: Tensor


class SpeechEncoder(nn.Module):
    """Log-mel -> frames at 50 Hz (Radford et al. 2022, the encoder half).

    block_frames: None looks at the whole utterance, as Whisper was trained; a number restricts
    each block of that many frames to itself and what came before, and only then there is
    `initial_state`, `step` and `finish`, for encoding while the user still speaks.
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
        self._check_length(int(lengths.max()))
        # Padding must be zero before each convolution, as it would be at the end of a lone row.
        x = input_features.to(self.conv1.weight.dtype) * mel_mask[:, None, :]
        x = F.gelu(self.conv1(x)) * mel_mask[:, None, :]
        x = F.gelu(self.conv2(x)).transpose(1, 2)[:, : self.max_frames]  # [B, F, D]
        x = x + self.embed_positions.weight[: x.shape[1]].to(x.dtype)
        attend = self._attention_mask(lengths, x.shape[1], x.dtype)
        for layer in self.layers:
            x = layer(x, attend)
        return Frames(self.layer_norm(x), lengths)

    def initial_state(self) -> SpeechEncoderState:
        """Before the first log-mel frame. Raises ValueError where attention is not in blocks."""
        if self.block_frames is None:
            raise ValueError(
                "block_frames=None: an encoder that looks at the whole question cannot begin "
                "before its end; train and load it with block_frames"
            )
        weight, heads = self.conv1.weight, self.config.encoder_attention_heads
        empty = weight.new_zeros(len(self.layers), 1, heads, 0, self.width // heads)
        return SpeechEncoderState(
            weight.new_zeros(self.conv1.in_channels, 0), 0, empty, empty.clone()
        )

    def step(self, mel: Tensor, state: SpeechEncoderState) -> tuple[Tensor, SpeechEncoderState]:
        """The next log-mel frames [n_mels, m], also none -> the blocks [n, D] that are complete.

        Any chunking, then `finish`, gives what `forward` gives, provided that the log-mel's
        maximum was fixed beforehand.
        """
        assert self.block_frames is not None  # else there would be no state
        mel = torch.cat([state.mel, mel.to(state.mel)], dim=1)
        # Frame j hears log-mel up to 2j + 2, so the last frame of a block needs one more pair.
        heard = (_first_mel(state.frames) + mel.shape[1] - 1) // 2
        complete = max(heard, 0) // self.block_frames * self.block_frames
        if complete <= state.frames:
            return mel.new_zeros(0, self.width), replace(state, mel=mel)
        until = 2 * complete + 1 - _first_mel(state.frames)
        frames, state = self._extend(mel[:, :until], replace(state, mel=mel), last=False)
        return frames, state

    def finish(self, state: SpeechEncoderState) -> Tensor:
        """The recording has ended: the frames [n, D] that were held back."""
        if _first_mel(state.frames) + state.mel.shape[1] <= 2 * state.frames:
            return state.mel.new_zeros(0, self.width)
        return self._extend(state.mel, state, last=True)[0]

    def _extend(
        self, mel: Tensor, state: SpeechEncoderState, *, last: bool
    ) -> tuple[Tensor, SpeechEncoderState]:
        """Encode all frames after the state's whose log-mel is here."""
        assert self.block_frames is not None  # else there would be no state
        x = F.gelu(self.conv1(mel[None]))
        # Where the log-mel was cut, the outermost value lacks a neighbour; at the ends of the
        # recording the second convolution sees a zero beyond it.
        x = x[..., 1:] if state.frames else F.pad(x, (1, 0))
        x = F.pad(x, (0, 1 - x.shape[-1] % 2)) if last else x[..., :-1]
        x = F.gelu(F.conv1d(x, self.conv2.weight, self.conv2.bias, stride=2)).transpose(1, 2)
        start, end = state.frames, state.frames + x.shape[1]
        self._check_length(end)
        x = x + self.embed_positions.weight[start:end].to(x.dtype)
        blocks = torch.arange(end, device=x.device) // self.block_frames
        allowed = blocks[None, :] <= blocks[start:, None]  # [n, end]
        keys, values = [], []
        for place, layer in enumerate(self.layers):
            past = state.keys[place], state.values[place]
            x, key, value = _extend_layer(layer, x, *past, allowed)
            keys.append(key)
            values.append(value)
        drop = _first_mel(end) - _first_mel(start)
        after = SpeechEncoderState(state.mel[:, drop:], end, torch.stack(keys), torch.stack(values))
        return self.layer_norm(x)[0], after

    def _check_length(self, frames: int) -> None:
        if frames > self.max_frames:
            raise ValueError(
                f"{frames / FRAME_RATE:.1f} s of audio: this encoder has positions for "
                f"{self.max_frames / FRAME_RATE:.0f} s; split the question"
            )

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


def _first_mel(frame: int) -> int:
    """The first log-mel frame that the convolutions of this encoder frame hear."""
    return max(0, 2 * frame - 2)


def _extend_layer(
    layer: Any, x: Tensor, past_keys: Tensor, past_values: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """transformers' encoder layer over new frames [1, n, D], its keys and values kept.

    past_keys, past_values: [1, heads, frames, head_dim]; allowed: [n, frames + n] bool.
    Returns the layer's output and all keys and values.
    """
    attention = layer.self_attn
    normed = layer.self_attn_layer_norm(x)
    queries, keys, values = (
        project(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    keys = torch.cat([past_keys, keys], dim=2)
    values = torch.cat([past_values, values], dim=2)
    seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
    x = x + attention.out_proj(seen.transpose(1, 2).flatten(2))
    hidden = layer.activation_fn(layer.fc1(layer.final_layer_norm(x)))
    return x + layer.fc2(hidden), keys, values


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
        write_tensors(aside / "model.safetensors", encoder.state_dict(), dtype=dtype)
