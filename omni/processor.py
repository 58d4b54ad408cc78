"""OmniProcessor: recordings and text -> input_ids, input_features and masks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
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
    pad_to_window,
    read_audio,
)
from omni.chat import read_chat, rows_of
from omni.config import OmniConfig
from omni.files import CheckpointError, read_json
from omni.prompt import (
    SPEECH,
    Message,
    PromptIds,
    control_token_in,
    encode_prompt,
    encode_rendered,
)
from omni.speech_adapter import SpeechAdapterConfig

CALL_KEYWORDS = ("sampling_rate", "padding")  # of the processor's call, beside a template's own


class OmniProcessor(ProcessorMixin):
    """Everything between a user's files and the model's tensors, built from the model's config."""

    audio_token = SPEECH  # the names that the processors of transformers' speech models have
    sampling_rate = SAMPLE_RATE

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: OmniConfig) -> None:
        # ProcessorMixin's own handling of keywords changes between releases: neither is used.
        self.tokenizer = tokenizer
        self.config = config
        self._encoder = config.encoder
        self.n_mels = self._encoder.n_mels
        self.max_seconds = self._encoder.max_frames / FRAME_RATE
        self._adapter: SpeechAdapterConfig = config.adapter
        self._prompt = config.prompt_config
        self._tools: list[dict[str, Any]] = []

    @property
    def audio_token_id(self) -> int:
        """The placeholder of one speech position in input_ids."""
        return self.config.speech_token_id

    @property
    def chat_template(self) -> Any:
        """The tokenizer's: there is no other."""
        return self.tokenizer.chat_template

    @chat_template.setter  # where the base sets an attribute, from a file of its own
    def chat_template(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, template: Any
    ) -> None:
        self.tokenizer.chat_template = template

    @property
    def model_input_names(self) -> list[str]:
        """What a call may give, by the names that `generate` takes."""
        return ["input_ids", "attention_mask", "input_features", "input_features_mask"]

    # From here on fewer keywords than the base: it knows pictures and films, and we do not.

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, folder: str | Path, **kwargs: Any
    ) -> OmniProcessor:
        """Read tokenizer and settings from a checkpoint folder or hub id."""
        from omni.files import HUB_KEYWORDS, fetch

        path = fetch(str(folder), **{k: v for k, v in kwargs.items() if k in HUB_KEYWORDS})
        read_json(path / "config.json")  # first: its errors name the file
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path}: no tokenizer to read ({str(error).splitlines()[0]}); save it there with "
                "the checkpoint's OmniProcessor"
            ) from None
        return cls(tokenizer, OmniConfig.from_pretrained(path))

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, folder: str | Path, **_: Any
    ) -> None:
        """Write the tokenizer, and the settings where no model has written its config.json."""
        self.tokenizer.save_pretrained(folder)
        if not (Path(folder) / "config.json").is_file():
            self.config.save_pretrained(folder)

    def with_prompt(
        self, system: str | None = None, tools: Sequence[dict[str, Any]] = ()
    ) -> OmniProcessor:
        """The same for conversations under another system message ("" for none, None for the
        checkpoint's own), and with tools that the chat template tells the model of."""
        config = copy.deepcopy(self.config)
        if system is not None:
            config.prompt = {**config.prompt, "system": system}
        processor = OmniProcessor(self.tokenizer, config)
        processor._tools = list(tools)
        return processor

    def features(self, waveform: np.ndarray) -> Tensor:
        """[samples] 16 kHz -> log-mel [n_mels, M]. Raises AudioError as `check` does."""
        self.check(waveform)
        padded = pad_to_window(waveform) if self.config.pad_to_window else waveform
        return self._encoder.log_mel(padded)

    def check(self, waveform: np.ndarray) -> None:
        """[samples] 16 kHz: whether it can be a question; nothing is cut in silence.

        Raises AudioError if a sample is not finite, and if the recording is longer than the
        encoder can hear, or too short to fill one LLM position.
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

    def positions(self, mel: int) -> int:
        """How many LLM positions a recording of `mel` log-mel frames takes."""
        return self._adapter.positions(encoder_frames(mel))

    def prompt(self, messages: Sequence[Message]) -> PromptIds:
        """Token ids of one conversation (see omni.prompt.encode_prompt)."""
        return encode_prompt(self.tokenizer, messages, self._prompt, self._tools)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        text: str | Sequence[str | None] | None = None,
        images: None = None,
        videos: None = None,
        audio: Any = None,
        *,
        sampling_rate: int = SAMPLE_RATE,
        return_tensors: str | None = "pt",
        padding: bool | str = True,
    ) -> BatchFeature:
        """Prompts and what is heard in them, as the batch that `generate` takes.

        text: one per row. A text that holds `<speech>` or another control token is a prompt that
        the chat template has rendered; audio fills its `<speech>`, in order. Any other text is a
        bare question, which is put into the template here; never pass a stranger's words so, but
        by `apply_chat_template`, which refuses control tokens in them. None, or no text at all:
        the row is a spoken question.
        audio: recordings, in the order of their placeholders over the whole batch, each as
        omni.audio.read_audio takes it; arrays are at `sampling_rate` Hz. Or one entry per row:
        a recording, a list of them, or None.
        return_tensors: "pt" (None too) or "np".
        Returns input_ids, attention_mask [B, T] (padded on the left, as generation needs) and,
        where there is audio, input_features [R, n_mels, M] and input_features_mask [R, M].
        """
        if images is not None or videos is not None:
            raise ValueError("images, videos: this model hears and reads; give audio or text")
        if return_tensors not in (None, "pt", "np"):
            raise ValueError(f"return_tensors={return_tensors!r}: must be 'pt' or 'np'")
        mels, prompts = [], []
        for words, sources in rows_of(text, audio):
            heard = [self.features(read_audio(one, sampling_rate)) for one in sources]
            mels += heard
            prompts.append(self._row(words, [self.positions(mel.shape[1]) for mel in heard]))
        if padding in (False, "do_not_pad") and len({len(ids) for ids in prompts}) > 1:
            raise ValueError(
                f"padding={padding!r}: rows of different lengths make no tensor; use padding=True"
            )
        pad = self.tokenizer.pad_token_id
        # Any id serves as padding, for it is masked; a Llama's tokenizer may name none.
        batch = left_padded(prompts, 0 if pad is None else int(pad))
        batch |= pad_features(mels) if mels else {}
        if return_tensors == "np":
            return BatchFeature({name: value.numpy() for name, value in batch.items()})
        return BatchFeature(batch)

    def _row(self, words: str | None, lengths: list[int]) -> list[int]:
        """Ids of one prompt, whose recordings take `lengths` positions."""
        if words is None:
            return self.prompt([Message(role="user", positions=lengths[0])]).ids
        if control_token_in(words, self.tokenizer):
            return encode_rendered(self.tokenizer, words, lengths, self._prompt)
        return self.prompt([Message(role="user", text=words)]).ids

    def apply_chat_template(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = False,
        return_dict: bool = False,
        return_tensors: str | None = "pt",
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """A conversation, or a list of them, as the prompt that the checkpoint's template makes.

        Content is a string or a list of {"type": "text", "text": ...} and {"type": "audio", ...},
        the latter with its recording under "audio", "path", "url" or "base64" (see omni.chat).
        tokenize=False gives the text, where `<speech>` stands for each recording; tokenize=True
        input_ids, and with return_dict=True what `__call__` gives.
        processor_kwargs: of `__call__`, also taken from kwargs; other kwargs go to the template.
        Raises ValueError for text that holds a control token.
        """
        batched = bool(conversation) and not isinstance(conversation[0], Mapping)
        conversations = conversation if batched else [conversation]
        chats = [read_chat(one, self.tokenizer, self._prompt) for one in conversations]
        settings = {name: kwargs.pop(name) for name in CALL_KEYWORDS if name in kwargs}
        texts = [
            str(
                self.tokenizer.apply_chat_template(
                    chat.messages, chat_template=chat_template, tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=continue_final_message, **kwargs,
                )
            )
            for chat in chats
        ]  # fmt: skip
        if not tokenize:
            return texts if batched else texts[0]
        settings |= {"return_tensors": return_tensors} | (processor_kwargs or {})
        batch = self(text=texts, audio=[chat.audio for chat in chats], **settings)
        return batch if return_dict else batch["input_ids"]

    def post_process_multimodal_output(
        self,
        generated_outputs: Any,
        skip_special_tokens: bool = True,
        generation_mode: str | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        """What `generate` gave -> a text per row, or with generation_mode="audio" a waveform.

        Waveforms are [W] float32 numpy arrays at `sampling_rate` Hz.
        """
        if generation_mode == "audio":
            waveforms = generated_outputs[1]
            rows = waveforms if isinstance(waveforms, (list, tuple)) else [waveforms]
            return [waveform.detach().float().cpu().numpy() for waveform in rows]
        if generation_mode not in (None, "text"):
            raise ValueError(f"generation_mode={generation_mode!r}: must be 'text' or 'audio'")
        ids = generated_outputs[0] if isinstance(generated_outputs, tuple) else generated_outputs
        settings = {"clean_up_tokenization_spaces": False} | kwargs
        return self.tokenizer.batch_decode(ids, skip_special_tokens=skip_special_tokens, **settings)

    def decode(self, ids: Any, **kwargs: Any) -> str:
        """Token ids -> text, without special tokens.

        Nothing is tidied up: the text of the first ids must begin the text of all.
        kwargs: of the tokenizer's `decode`.
        """
        settings = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False} | kwargs
        return self.tokenizer.decode(ids, **settings)


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
