"""Part 1 of 5, the ears: a frozen Whisper encoder that encodes no more than was said.

Whisper's own code insists on 30 s of input. Here audio of n frames uses the first n positions, so
a 3 s question costs 3 s. Parameter names are those of transformers' `WhisperEncoder`: its state
dict loads unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.audio import FRAME_RATE, encoder_frames, log_mel
from omni.files import replace_folder, write_json, write_tensors
from omni.values import Frames, lengths_to_mask
from omni.whisper_layers import SpeechEncoderLayer

if TYPE_CHECKING:
    from omni.encoder_lora import EncoderLora

# Our names of the sizes -> those of transformers' WhisperConfig.
_WHISPER_NAMES = {
    "n_mels": "num_mel_bins",
    "width": "d_model",
    "layers": "encoder_layers",
    "heads": "encoder_attention_heads",
    "ffn": "encoder_ffn_dim",
    "max_frames": "max_source_positions",
}
_BLOCKS = ("block_frames", "left_blocks")  # ours alone: no Whisper was trained so


@dataclass(frozen=True, kw_only=True)
class SpeechEncoderConfig:
    """Sizes of the encoder half of a Whisper, and how far its frames look.

    block_frames: None looks at the whole recording, as Whisper was trained; a number cuts it into
        blocks of that many frames, which see themselves and what came before, and counts the
        log-mel's range from its running maximum: what is known while the user still speaks.
    left_blocks: how many blocks before its own a frame sees; None: all of them.
    """

    n_mels: int
    width: int
    layers: int
    heads: int
    ffn: int
    max_frames: int = 1500  # positions; 30 s
    block_frames: int | None = None
    left_blocks: int | None = None

    def __post_init__(self) -> None:
        for name in _WHISPER_NAMES:
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"speech_encoder.{name}={value}: must be at least 1")
        if self.width % self.heads:
            raise ValueError(
                f"speech_encoder.width={self.width}: must be a multiple of heads={self.heads}; "
                "change one of them"
            )
        if self.block_frames is not None and self.block_frames < 1:
            raise ValueError(
                f"speech_encoder.block_frames={self.block_frames}: must be at least 1; None looks "
                "at the whole recording"
            )
        if self.left_blocks is not None and (self.left_blocks < 0 or self.block_frames is None):
            raise ValueError(
                f"speech_encoder.left_blocks={self.left_blocks}: must be 0 or more, beside "
                "block_frames; None sees all blocks before"
            )

    @property
    def blocks(self) -> dict[str, int]:
        """Its attention in blocks, by name; empty where it looks at the whole recording."""
        return {name: v for name in _BLOCKS if (v := getattr(self, name)) is not None}

    def log_mel(self, waveform: Tensor | np.ndarray) -> Tensor:
        """[samples] 16 kHz -> [n_mels, M] as this encoder hears it; see omni.audio.log_mel."""
        return log_mel(waveform, self.n_mels, running=self.block_frames is not None)

    def may_attend(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Numbers of frames [Q] and [K] -> [Q, K] bool: which may look at which, by their blocks.

        Only where there are blocks.
        """
        assert self.block_frames is not None
        asking, seen = queries[:, None] // self.block_frames, keys[None, :] // self.block_frames
        allowed = seen <= asking
        return (
            allowed if self.left_blocks is None else allowed & (seen >= asking - self.left_blocks)
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
        sizes = {ours: int(values[theirs]) for ours, theirs in _WHISPER_NAMES.items()}
        blocks = {name: int(values[name]) for name in _BLOCKS if values.get(name) is not None}
        return cls(**sizes | blocks)

    def to_whisper(self) -> dict[str, Any]:
        """The same in the words of transformers' WhisperConfig; blocks, if any, in ours."""
        sizes = {theirs: getattr(self, ours) for ours, theirs in _WHISPER_NAMES.items()}
        return {"model_type": "whisper", **sizes, **self.blocks}


@dataclass(frozen=True)
class SpeechEncoderState:
    """One recording that is still being spoken.

    mel: [n_mels, m] log-mel from frame 2 * frames - 2 on (from 0 at the start), as far back as
    the convolutions of the next frame hear; frames: encoded so far;
    keys, values: [layers, 1, heads, kept, head_dim], of the last frames that a block still sees.
    """

    mel: Tensor
    frames: int
    keys: Tensor
    values: Tensor


class SpeechEncoder(nn.Module):
    """Log-mel -> frames at 50 Hz (Radford et al. 2022, the encoder half).

    With blocks (`config.block_frames`) there is `initial_state`, `step` and `finish`, for encoding
    while the user still speaks; omni.live_speech feeds them from a microphone.
    lora: what has been merged into the weights of its base, and is saved in their stead.
    """

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.conv1 = nn.Conv1d(config.n_mels, self.width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(self.width, self.width, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_frames, self.width)
        self.layers = nn.ModuleList(
            SpeechEncoderLayer(self.width, config.heads, config.ffn) for _ in range(config.layers)
        )
        self.layer_norm = nn.LayerNorm(self.width)
        self.lora: EncoderLora | None = None

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
        if self.config.block_frames is None:
            raise ValueError(
                "block_frames=None: an encoder that looks at the whole question cannot begin "
                "before its end; train it with block_frames"
            )
        weight, heads = self.conv1.weight, self.config.heads
        empty = weight.new_zeros(len(self.layers), 1, heads, 0, self.width // heads)
        return SpeechEncoderState(
            weight.new_zeros(self.conv1.in_channels, 0), 0, empty, empty.clone()
        )

    def step(self, mel: Tensor, state: SpeechEncoderState) -> tuple[Tensor, SpeechEncoderState]:
        """The next log-mel frames [n_mels, m], also none -> the blocks [n, D] that are complete.

        Any chunking, then `finish`, gives what `forward` gives, provided that the log-mel is
        `config.log_mel`'s, whose range needs nothing that comes later.
        """
        block = self.config.block_frames
        assert block is not None  # else there would be no state
        mel = torch.cat([state.mel, mel.to(state.mel)], dim=1)
        # Frame j hears log-mel up to 2j + 2, so the last frame of a block needs one more pair.
        heard = (_first_mel(state.frames) + mel.shape[1] - 1) // 2
        complete = max(heard, 0) // block * block
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
        x = F.gelu(self.conv1(mel[None]))
        # Where the log-mel was cut, the outermost value lacks a neighbour; at the ends of the
        # recording the second convolution sees a zero beyond it.
        x = x[..., 1:] if state.frames else F.pad(x, (1, 0))
        x = F.pad(x, (0, 1 - x.shape[-1] % 2)) if last else x[..., :-1]
        x = F.gelu(F.conv1d(x, self.conv2.weight, self.conv2.bias, stride=2)).transpose(1, 2)
        start, end = state.frames, state.frames + x.shape[1]
        self._check_length(end)
        x = x + self.embed_positions.weight[start:end].to(x.dtype)
        numbers = torch.arange(start - state.keys.shape[3], end, device=x.device)
        allowed = self.config.may_attend(numbers[-x.shape[1] :], numbers)  # [n, kept + n]
        drop = self._first_seen(end) - int(numbers[0])
        keys, values = [], []
        for place, layer in enumerate(self.layers):
            x, key, value = layer(x, allowed, (state.keys[place], state.values[place]))
            keys.append(key[:, :, drop:])
            values.append(value[:, :, drop:])
        heard = _first_mel(end) - _first_mel(start)
        after = SpeechEncoderState(
            state.mel[:, heard:], end, torch.stack(keys), torch.stack(values)
        )
        return self.layer_norm(x)[0], after

    def _first_seen(self, frames: int) -> int:
        """The first frame that the block after so many frames sees."""
        block, left = self.config.block_frames, self.config.left_blocks
        assert block is not None
        return 0 if left is None else max(0, frames - left * block)

    def _check_length(self, frames: int) -> None:
        if frames > self.config.max_frames:
            raise ValueError(
                f"{frames / FRAME_RATE:.1f} s of audio: this encoder has positions for "
                f"{self.config.max_frames / FRAME_RATE:.0f} s; split the question"
            )

    def _attention_mask(self, lengths: Tensor, size: int, dtype: torch.dtype) -> Tensor | None:
        """[B, 1, F, F] additive, or None where everything may look at everything."""
        if self.config.block_frames is None and int(lengths.min()) == size:
            return None
        allowed = lengths_to_mask(lengths, size)[:, None, None, :].expand(-1, 1, size, size)
        if self.config.block_frames is not None:
            numbers = torch.arange(size, device=lengths.device)
            allowed = allowed & self.config.may_attend(numbers, numbers)
        # A large finite value: rows of pure padding would turn to NaN under -inf.
        return torch.zeros(allowed.shape, dtype=dtype, device=lengths.device).masked_fill(
            ~allowed, torch.finfo(dtype).min
        )


def _first_mel(frame: int) -> int:
    """The first log-mel frame that the convolutions of this encoder frame hear."""
    return max(0, 2 * frame - 2)


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
