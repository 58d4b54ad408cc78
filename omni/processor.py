"""OmniProcessor: recordings and text -> input_ids, input_features and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from omni.audio import (
    FRAME_RATE,
    N_FFT,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    AudioError,
    check_finite,
    encoder_frames,
    log_mel,
    pad_to_window,
    prepare,
)
from omni.checkpoint import CheckpointError, read_json
from omni.config import OmniConfig
from omni.prompt import Message, PromptIds, encode_prompt
from omni.speech_adapter import SpeechAdapterConfig


class OmniProcessor(ProcessorMixin):
    """Everything between a user's files and the model's tensors, built from the model's config."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: OmniConfig) -> None:
        # ProcessorMixin's own handling of keywords changes between releases: neither is used.
        self.tokenizer = tokenizer
        self.config = config
        self.chat_template = None
        self.n_mels = int(config.audio_config.num_mel_bins)
        self.max_seconds = config.audio_config.max_source_positions / FRAME_RATE
        self._adapter: SpeechAdapterConfig = config.adapter
        self._prompt = config.prompt_config

    @classmethod
    def from_pretrained(cls, folder: str | Path, **_: Any) -> OmniProcessor:  # type: ignore[override]
        """Read tokenizer and settings from a checkpoint folder."""
        from omni.bases import fetch

        path = fetch(str(folder))
        read_json(path / "config.json")  # first: its errors name the file
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path}: no tokenizer to read ({str(error).splitlines()[0]}); save it there with "
                "the checkpoint's OmniProcessor"
            ) from None
        return cls(tokenizer, OmniConfig.from_pretrained(path))

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:  # type: ignore[override]
        """Write the tokenizer, and the settings where no model has written its config.json."""
        self.tokenizer.save_pretrained(folder)
        if not (Path(folder) / "config.json").is_file():
            self.config.save_pretrained(folder)

    def features(self, waveform: np.ndarray) -> Tensor:
        """[samples] 16 kHz -> log-mel [n_mels, M].

        Raises AudioError if a sample is not finite, and if the recording is longer than the
        encoder can hear, or too short to fill one LLM position; nothing is cut in silence.
        """
        check_finite(waveform)
        seconds = len(waveform) / SAMPLE_RATE
        if seconds > self.max_seconds:
            raise AudioError(
                f"{seconds:.1f} s of audio: the encoder hears at most {self.max_seconds:.0f} s; "
                "split the question"
            )
        least = max(SAMPLES_PER_FRAME * self._adapter.stack, N_FFT)
        if len(waveform) < least:
            raise AudioError(
                f"{len(waveform)} samples of audio: at least {least} are needed for one LLM "
                f"position ({least / SAMPLE_RATE:.2f} s); record the whole question"
            )
        padded = pad_to_window(waveform) if self.config.pad_to_window else waveform
        return log_mel(padded, self.n_mels)

    def positions(self, mel: int) -> int:
        """How many LLM positions a recording of `mel` log-mel frames takes."""
        return self._adapter.positions(encoder_frames(mel))

    def prompt(self, messages: Sequence[Message]) -> PromptIds:
        """Token ids of one conversation (see omni.prompt.encode_prompt)."""
        return encode_prompt(self.tokenizer, messages, self._prompt)

    def __call__(
        self,
        text: str | Sequence[str | None] | None = None,
        audio: np.ndarray | Sequence[np.ndarray | None] | None = None,
        *,
        sampling_rate: int = SAMPLE_RATE,
    ) -> BatchFeature:
        """One-turn questions, spoken or written, as the batch that `generate` takes.

        audio: [samples] arrays at `sampling_rate` Hz; text: questions. Each row has one of the two.
        Returns input_ids, attention_mask [B, T] (padded on the left, as generation needs) and,
        where there is audio, input_features [R, n_mels, M] and input_features_mask [R, M].
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        audios = [audio] if isinstance(audio, np.ndarray) else list(audio or [])
        rows = max(len(texts), len(audios))
        if rows == 0:
            raise ValueError("no question: give text or audio")
        texts += [None] * (rows - len(texts))
        audios += [None] * (rows - len(audios))
        mels, prompts = [], []
        for question, waveform in zip(texts, audios, strict=True):
            if (question is None) == (waveform is None):
                raise ValueError("each row needs either text or audio, not both and not neither")
            if waveform is None:
                prompts.append(self.prompt([Message(role="user", text=str(question))]))
                continue
            mel = self.features(prepare(waveform, sampling_rate))
            mels.append(mel)
            message = Message(role="user", positions=self.positions(mel.shape[1]))
            prompts.append(self.prompt([message]))
        pad = self.tokenizer.pad_token_id
        # Any id serves as padding, for it is masked; a Llama's tokenizer may name none.
        batch = left_padded([prompt.ids for prompt in prompts], 0 if pad is None else int(pad))
        return BatchFeature(batch | (pad_features(mels) if mels else {}))

    def decode(self, ids: Sequence[int]) -> str:  # type: ignore[override]
        """Token ids -> text, without special tokens.

        Nothing is tidied up: the text of the first ids must begin the text of all.
        """
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


def pad_features(mels: Sequence[Tensor]) -> dict[str, Tensor]:
    """Log-mels of R recordings -> input_features [R, n_mels, M] and input_features_mask [R, M]."""
    longest = max(mel.shape[1] for mel in mels)
    longest += longest % 2  # the encoder's second convolution has stride 2
    features = torch.stack([F.pad(mel, (0, longest - mel.shape[1])) for mel in mels])
    lengths = torch.tensor([mel.shape[1] for mel in mels])
    mask = torch.arange(longest)[None, :] < lengths[:, None]
    return {"input_features": features, "input_features_mask": mask}


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> dict[str, Tensor]:
    """Token rows -> input_ids and attention_mask [B, T], ending together."""
    longest = max(len(row) for row in rows)
    ids = [[pad] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
