"""Stage 1 of 5, the ears: a frozen Whisper encoder that encodes no more than was said.

Whisper's own code insists on 30 s of input. Here audio of n frames uses the first n positions, so
a 3 s question costs 3 s. Parameter names are those of transformers' `WhisperEncoder`: its state
dict loads unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.audio import FRAME_RATE, encoder_frames
from omni.checkpoint import write_json, write_tensors
from omni.files import replace_folder
from omni.stages import Frames, lengths_to_mask

# Our names of the sizes -> those of transformers' WhisperConfig.
_WHISPER_NAMES = {
    "n_mels": "num_mel_bins",
    "width": "d_model",
    "layers": "encoder_layers",
    "heads": "encoder_attention_heads",
    "ffn": "encoder_ffn_dim",
    "max_frames": "max_source_positions",
}


@dataclass(frozen=True, kw_only=True)
class SpeechEncoderConfig:
    """Sizes of the encoder half of a Whisper."""

    n_mels: int
    width: int
    layers: int
    heads: int
    ffn: int
    max_frames: int = 1500  # positions; 30 s

    def __post_init__(self) -> None:
        for name in _WHISPER_NAMES:
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"speech_encoder.{name}={value}: must be at least 1")
        if self.width % self.heads:
            raise ValueError(
                f"speech_encoder.width={self.width}: must be a multiple of heads={self.heads}; "
                "change one of them"
            )

    @classmethod
    def from_whisper(cls, values: Mapping[str, Any]) -> SpeechEncoderConfig:
        """The encoder's part of a transformers WhisperConfig, as a mapping of its fields.

        Raises ValueError for an activation other than GELU: no Whisper has another.
        """
        if (activation := values.get("activation_function", "gelu")) != "gelu":
            raise ValueError(
                f"activation_function={activation!r}: a Whisper encoder has 'gelu'; this is not one"
            )
        return cls(**{ours: int(values[theirs]) for ours, theirs in _WHISPER_NAMES.items()})

    def to_whisper(self) -> dict[str, Any]:
        """The same sizes in the words of transformers' WhisperConfig."""
        sizes = {theirs: getattr(self, ours) for ours, theirs in _WHISPER_NAMES.items()}
        return {"model_type": "whisper", **sizes}


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

    def __init__(self, config: SpeechEncoderConfig, *, block_frames: int | None = None) -> None:
        super().__init__()
        if block_frames is not None and block_frames < 1:
            raise ValueError(
                f"block_frames={block_frames}: must be at least 1; None looks at the whole input"
            )
        self.config = config
        self.block_frames = block_frames
        self.width = config.width
        self.conv1 = nn.Conv1d(config.n_mels, self.width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(self.width, self.width, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_frames, self.width)
        self.layers = nn.ModuleList(
            SpeechEncoderLayer(self.width, config.heads, config.ffn) for _ in range(config.layers)
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
        x = F.gelu(self.conv2(x)).transpose(1, 2)[:, : self.config.max_frames]  # [B, F, D]
        x = x + self.embed_positions.weight[: x.shape[1]].to(x.dtype)
        attend = self._attention_mask(lengths, x.shape[1], x.dtype)
        for layer in self.layers:
            x, _, _ = layer(x, attend)
        return Frames(self.layer_norm(x), lengths)

    def initial_state(self) -> SpeechEncoderState:
        """Before the first log-mel frame. Raises ValueError where attention is not in blocks."""
        if self.block_frames is None:
            raise ValueError(
                "block_frames=None: an encoder that looks at the whole question cannot begin "
                "before its end; train and load it with block_frames"
            )
        weight, heads = self.conv1.weight, self.config.heads
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
            x, key, value = layer(x, allowed, (state.keys[place], state.values[place]))
            keys.append(key)
            values.append(value)
        drop = _first_mel(end) - _first_mel(start)
        after = SpeechEncoderState(state.mel[:, drop:], end, torch.stack(keys), torch.stack(values))
        return self.layer_norm(x)[0], after

    def _check_length(self, frames: int) -> None:
        if frames > self.config.max_frames:
            raise ValueError(
                f"{frames / FRAME_RATE:.1f} s of audio: this encoder has positions for "
                f"{self.config.max_frames / FRAME_RATE:.0f} s; split the question"
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


class SpeechEncoderLayer(nn.Module):
    """Attention and a feed-forward net, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Frames [B, n, D] -> the layer's output, and the keys and values of all frames so far.

        mask: what each frame may look at, bool or additive; None for everything.
        past: keys and values [B, heads, p, head_dim] of frames before, if any.
        """
        seen, keys, values = self.self_attn(self.self_attn_layer_norm(x), mask, past)
        x = x + seen
        x = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        if x.dtype == torch.float16:
            # A large Whisper's residuals reach beyond what float16 holds; infinity would spread.
            limit = torch.finfo(x.dtype).max - 1000
            x = x.clamp(-limit, limit)
        return x, keys, values


class SelfAttention(nn.Module):
    """Whisper's: keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, n, D] -> the same shape, and the keys and values [B, heads, p + n, head_dim]."""
        queries, keys, values = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if past is not None:
            keys = torch.cat([past[0], keys], dim=2)
            values = torch.cat([past[1], values], dim=2)
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.out_proj(seen.transpose(1, 2).flatten(2)), keys, values


def save_speech_encoder(
    encoder: SpeechEncoder,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = torch.float16,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write config.json and model.safetensors as a transformers WhisperEncoder folder.

    dtype: of the weights on disk, None keeps theirs; published Whisper weights fit fp16 exactly.
    weights: where the module's are elsewhere.
    """
    state = encoder.state_dict() if weights is None else weights
    with replace_folder(folder) as aside:
        write_encoder_config(encoder.config, aside)
        write_tensors(aside / "model.safetensors", state, dtype=dtype)


def write_encoder_config(config: SpeechEncoderConfig, folder: str | Path) -> None:
    """The config.json of a transformers WhisperEncoder folder."""
    values = {"architectures": ["WhisperEncoder"], **config.to_whisper()}
    write_json(Path(folder) / "config.json", values)
