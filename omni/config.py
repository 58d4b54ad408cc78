"""OmniConfig: what a checkpoint is made of, as transformers and as typed values see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from typing import Any, ClassVar

from transformers import AutoConfig, GenerationConfig, PretrainedConfig, WhisperConfig

from omni.auto import MODEL_TYPE, register
from omni.files import CheckpointError, build_config
from omni.prompt import PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from omni.speech_encoder import SpeechEncoderConfig
from omni.unit_decoder import UnitDecoderConfig

FORMAT_VERSION = 1

# What transformers itself writes into a config.json, or wrote there in earlier releases.
_TRANSFORMERS_KEYS = frozenset(
    {field.name for field in fields(PretrainedConfig)}
    | set(GenerationConfig().to_dict())
    | {
        "model_type", "torch_dtype", "attn_implementation", "experts_implementation", "use_cache",
        "name_or_path", "tie_word_embeddings", "quantization_config", "auto_map", "num_labels",
        "tokenizer_class", "torchscript", "pruned_heads", "prefix", "use_bfloat16", "is_decoder",
        "finetuning_task", "task_specific_params", "tf_legacy_loss", "tie_encoder_decoder",
        "add_cross_attention", "cross_attention_hidden_size", "sep_token_id",
    }
)  # fmt: skip


class OmniConfig(PretrainedConfig):
    """audio_config: the Whisper encoder; text_config: the causal LM; the rest is ours.

    speech_adapter, unit_decoder (None before stage 2), prompt: dictionaries of the fields of
        SpeechAdapterConfig, UnitDecoderConfig and PromptConfig; `.adapter`, `.units`,
        `.prompt_config` give them typed.
    speech_token_id: the placeholder of one speech position in input_ids.
    pad_to_window: pad every question to 30 s, for published weights that saw nothing else.
    bases: where frozen parts come from when the checkpoint does not carry them:
        {"speech_encoder" | "language_model": hub id or folder}.
    base_digests: what their weights were (see omni/checkpoint/named.py), by the names of `bases`.
    trained: which parts each stage trained, for `omni info`.
    """

    model_type = MODEL_TYPE
    # Set as in transformers' own; the base computes it, for classes that declare their parts.
    sub_configs: ClassVar = {  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
        "audio_config": WhisperConfig,
        "text_config": AutoConfig,
    }

    def __init__(
        self,
        audio_config: WhisperConfig | dict[str, Any] | None = None,
        text_config: PretrainedConfig | dict[str, Any] | None = None,
        speech_adapter: dict[str, Any] | None = None,
        unit_decoder: dict[str, Any] | None = None,
        prompt: dict[str, Any] | None = None,
        speech_token_id: int = -1,
        pad_to_window: bool = False,
        block_frames: int | None = None,
        bases: dict[str, str] | None = None,
        base_digests: dict[str, str] | None = None,
        trained: dict[str, list[str]] | None = None,
        format_version: int = FORMAT_VERSION,
        **kwargs: Any,  # transformers' own
    ) -> None:
        _refuse_unknown(kwargs)
        self.audio_config: WhisperConfig = (
            audio_config
            if isinstance(audio_config, WhisperConfig)
            else _foreign(_whisper_config, audio_config or {}, where="audio_config")
        )
        if block_frames is not None:  # its place before 0.3.0
            self.audio_config.block_frames = block_frames
        self.text_config: PretrainedConfig = (
            text_config
            if isinstance(text_config, PretrainedConfig)
            else _foreign(_causal_lm_config, text_config or {}, where="text_config")
        )
        self.speech_adapter = speech_adapter or asdict(SpeechAdapterConfig())
        if unit_decoder and "units" in unit_decoder:  # its name before 0.2.0
            rest = {key: value for key, value in unit_decoder.items() if key != "units"}
            unit_decoder = rest | {"num_units": unit_decoder["units"]}
        self.unit_decoder = unit_decoder
        self.prompt = prompt or asdict(PromptConfig())
        self.speech_token_id = speech_token_id
        self.pad_to_window = pad_to_window
        self.bases = bases or {}
        self.base_digests = base_digests or {}
        self.trained = trained or {}
        self.format_version = format_version
        if format_version > FORMAT_VERSION:
            raise CheckpointError(
                f"format_version={format_version}: this program reads up to {FORMAT_VERSION}; "
                "upgrade it"
            )
        super().__init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `bases` says where to look, so where this was read from is left out."""
        values = super().to_dict()
        for part in ("audio_config", "text_config"):
            values[part].pop("_name_or_path", None)
        return values

    @property
    def encoder(self) -> SpeechEncoderConfig:
        """`audio_config` typed. Raises CheckpointError if its values make no encoder."""
        return _foreign(
            SpeechEncoderConfig.from_whisper, self.audio_config.to_dict(), where="audio_config"
        )

    @property
    def adapter(self) -> SpeechAdapterConfig:
        """`speech_adapter` typed. Raises CheckpointError for an unknown key."""
        return build_config(SpeechAdapterConfig, self.speech_adapter, where="speech_adapter")

    @property
    def units(self) -> UnitDecoderConfig | None:
        """`unit_decoder` typed, None before stage 2. Raises CheckpointError for an unknown key."""
        if self.unit_decoder is None:
            return None
        return build_config(UnitDecoderConfig, self.unit_decoder, where="unit_decoder")

    @property
    def prompt_config(self) -> PromptConfig:
        """`prompt` typed. Raises CheckpointError for an unknown key."""
        return build_config(PromptConfig, self.prompt, where="prompt")

    @property
    def hidden_size(self) -> int:
        """The LLM's width; DeepSpeed's "auto" sizes read it here."""
        return int(self.text_config.hidden_size)


def _foreign(kind: Callable[..., Any], values: dict[str, Any], *, where: str) -> Any:
    """A configuration from JSON values in transformers' words, its complaints told in one line."""
    try:
        return kind(values)
    except Exception as error:  # each field may be refused by a class of its own
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{where}: {reason}; compare with a fresh config.json") from None


def _whisper_config(values: dict[str, Any]) -> WhisperConfig:
    return WhisperConfig(**{name: value for name, value in values.items() if name != "model_type"})


def _causal_lm_config(values: dict[str, Any]) -> PretrainedConfig:
    return AutoConfig.for_model(**{"model_type": "llama", **values})


def _refuse_unknown(keys: Iterable[str]) -> None:
    for key in keys:
        if not key.startswith("_") and key not in _TRANSFORMERS_KEYS:
            raise CheckpointError(
                f"config.json: unknown key {key!r}; correct or remove it, or upgrade this program "
                "if a newer one wrote the checkpoint"
            )


register(OmniConfig)
