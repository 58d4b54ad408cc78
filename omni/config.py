"""OmniConfig: what a checkpoint is made of, as transformers and as typed values see it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from transformers import AutoConfig, PretrainedConfig, WhisperConfig

from omni.checkpoint import CheckpointError, build_config
from omni.prompt import PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from omni.unit_decoder import UnitDecoderConfig

FORMAT_VERSION = 1


class OmniConfig(PretrainedConfig):
    """audio_config: the Whisper encoder; text_config: the causal LM; the rest is ours.

    speech_adapter, unit_decoder (None before stage 2), prompt: dictionaries of the fields of
        SpeechAdapterConfig, UnitDecoderConfig and PromptConfig; `.adapter`, `.units`,
        `.prompt_config` give them typed.
    speech_token_id: the placeholder of one speech position in input_ids.
    pad_to_window: pad every question to 30 s, for published weights that saw nothing else.
    block_frames: attention of the speech encoder in blocks (see SpeechEncoder), None for whole.
    bases: where frozen parts come from when the checkpoint does not carry them:
        {"speech_encoder" | "language_model": hub id or folder}.
    trained: which parts each stage trained, for `omni info`.
    """

    model_type = "omni"
    sub_configs = {"audio_config": WhisperConfig, "text_config": AutoConfig}

    def __init__(
        self,
        audio_config: WhisperConfig | dict | None = None,
        text_config: PretrainedConfig | dict | None = None,
        speech_adapter: dict | None = None,
        unit_decoder: dict | None = None,
        prompt: dict | None = None,
        speech_token_id: int = -1,
        pad_to_window: bool = False,
        block_frames: int | None = None,
        bases: dict[str, str] | None = None,
        trained: dict[str, list[str]] | None = None,
        format_version: int = FORMAT_VERSION,
        **kwargs: Any,
    ) -> None:
        if isinstance(audio_config, dict):
            audio_config = WhisperConfig(**audio_config)
        if isinstance(text_config, dict):
            values = dict(text_config)
            text_config = AutoConfig.for_model(values.pop("model_type", "llama"), **values)
        self.audio_config = audio_config if audio_config is not None else WhisperConfig()
        self.text_config = text_config if text_config is not None else AutoConfig.for_model("llama")
        self.speech_adapter = speech_adapter or asdict(SpeechAdapterConfig())
        self.unit_decoder = unit_decoder
        self.prompt = prompt or asdict(PromptConfig())
        self.speech_token_id = speech_token_id
        self.pad_to_window = pad_to_window
        self.block_frames = block_frames
        self.bases = bases or {}
        self.trained = trained or {}
        self.format_version = format_version
        if format_version > FORMAT_VERSION:
            raise CheckpointError(
                f"format_version={format_version}: this program reads up to {FORMAT_VERSION}; "
                "upgrade it"
            )
        super().__init__(**kwargs)

    @property
    def adapter(self) -> SpeechAdapterConfig:
        return build_config(SpeechAdapterConfig, self.speech_adapter, where="speech_adapter")

    @property
    def units(self) -> UnitDecoderConfig | None:
        if self.unit_decoder is None:
            return None
        return build_config(UnitDecoderConfig, self.unit_decoder, where="unit_decoder")

    @property
    def prompt_config(self) -> PromptConfig:
        return build_config(PromptConfig, self.prompt, where="prompt")

    @property
    def hidden_size(self) -> int:
        """The LLM's width; DeepSpeed's "auto" sizes read it here."""
        return int(self.text_config.hidden_size)
