"""Full-size recipes: published bases by name, their sizes, and what the two stages make of them.

The bases are named, not copied; their sizes stand here so that a recipe can be built, counted and
tested without fetching anything. Sizes are those of the config.json that each hub id publishes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from transformers import LlamaConfig, PretrainedConfig, Qwen2Config

from omni.config import OmniConfig
from omni.speech_encoder import SpeechEncoderConfig
from omni.units import UnitsConfig
from omni.vocoder import HifiGanConfig
from train.stages.named import STAGE2
from train.stages.stage2 import Stage2

# mHuBERT base, iteration 3 on VoxPopuli's English, Spanish and French (Lee et al. 2022), layer 11,
# 1000 units. The hub id holds fairseq's weights in transformers' names; `omni convert hubert` reads
# fairseq's own mhubert_base_vp_en_es_fr_it3.pt, and `omni convert kmeans` its centroids.
MHUBERT = UnitsConfig(kind="hubert", name="voidful/mhubert-base", layer=11)


@dataclass(frozen=True, kw_only=True)
class PublishedRecipe:
    """One full-size model. speech_encoder, language_model: hub ids of the bases.

    encoder, text: the bases' sizes.
    """

    speech_encoder: str
    encoder: SpeechEncoderConfig
    language_model: str
    text: PretrainedConfig
    stage2: Stage2
    units: UnitsConfig = MHUBERT
    vocoder: HifiGanConfig = field(default_factory=HifiGanConfig)

    def config(self) -> OmniConfig:
        """The finished model's, after both stages."""
        hearing = self.stage2.hearing
        return OmniConfig(
            audio_config=self.encoder.to_whisper(),
            text_config=self.text,
            speech_adapter=asdict(hearing.adapter),
            unit_decoder=asdict(
                self.stage2.decoder(int(self.text.hidden_size), int(self.text.vocab_size))
            ),
            prompt=asdict(hearing.prompt),
            speech_token_id=int(self.text.vocab_size),  # one past the last: it is never embedded
            bases={"speech_encoder": self.speech_encoder, "language_model": self.language_model},
        )


def whisper_large_v3() -> SpeechEncoderConfig:
    """openai/whisper-large-v3, the encoder."""
    return SpeechEncoderConfig(n_mels=128, width=1280, layers=32, heads=20, ffn=5120)


def whisper_small() -> SpeechEncoderConfig:
    """openai/whisper-small, the encoder."""
    return SpeechEncoderConfig(n_mels=80, width=768, layers=12, heads=12, ffn=3072)


def llama_3_1_8b() -> PublishedRecipe:
    """LLaMA-Omni's own build (Fang et al. 2024, arXiv 2409.06666, sections 3.1 and 3.2)."""
    return PublishedRecipe(
        speech_encoder="openai/whisper-large-v3",
        encoder=whisper_large_v3(),
        language_model="meta-llama/Llama-3.1-8B-Instruct",
        text=_llama(
            width=4096, layers=32, heads=32, kv_heads=8, ffn=14_336, rope_factor=8.0, tied=False
        ),
        stage2=STAGE2["llama-3.1-8b"](),
    )


def llama_3_2_1b() -> PublishedRecipe:
    """The smallest Llama 3 for text; the unit decoder shrinks with the LLM's width."""
    return PublishedRecipe(
        speech_encoder="openai/whisper-large-v3",
        encoder=whisper_large_v3(),
        language_model="meta-llama/Llama-3.2-1B-Instruct",
        text=_llama(
            width=2048, layers=16, heads=32, kv_heads=8, ffn=8192, rope_factor=32.0, tied=True
        ),
        stage2=STAGE2["llama-3.2-1b"](),
    )


def qwen() -> PublishedRecipe:
    """Qwen2.5-1.5B: of the family that LLaMA-Omni 2 builds on (arXiv 2505.02625)."""
    return PublishedRecipe(
        speech_encoder="openai/whisper-large-v3",
        encoder=whisper_large_v3(),
        language_model="Qwen/Qwen2.5-1.5B-Instruct",
        text=Qwen2Config(
            vocab_size=151_936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
            num_attention_heads=12, num_key_value_heads=2, max_position_embeddings=32_768,
            rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=151_643,
            eos_token_id=151_645, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        ),
        stage2=STAGE2["qwen"](),
    )  # fmt: skip


def smollm() -> PublishedRecipe:
    """SmolLM2-360M and whisper-small: what one consumer GPU trains within a day or so."""
    return PublishedRecipe(
        speech_encoder="openai/whisper-small",
        encoder=whisper_small(),
        language_model="HuggingFaceTB/SmolLM2-360M-Instruct",
        text=LlamaConfig(
            vocab_size=49_152, hidden_size=960, intermediate_size=2560, num_hidden_layers=32,
            num_attention_heads=15, num_key_value_heads=5, max_position_embeddings=8192,
            rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        ),
        stage2=STAGE2["smollm"](),
    )  # fmt: skip


def _llama(
    *, width: int, layers: int, heads: int, kv_heads: int, ffn: int, rope_factor: float, tied: bool
) -> LlamaConfig:
    """Llama 3.1 and 3.2: the same vocabulary and long-context scaling."""
    return LlamaConfig(
        vocab_size=128_256, hidden_size=width, intermediate_size=ffn, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=131_072,
        rms_norm_eps=1e-5, tie_word_embeddings=tied, bos_token_id=128_000,
        eos_token_id=[128_001, 128_008, 128_009],
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500_000.0, "factor": rope_factor,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    )  # fmt: skip


PUBLISHED: dict[str, Callable[[], PublishedRecipe]] = {
    "llama-3.1-8b": llama_3_1_8b,
    "llama-3.2-1b": llama_3_2_1b,
    "qwen": qwen,
    "smollm": smollm,
}
