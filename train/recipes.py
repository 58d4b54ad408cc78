"""Named recipes: every size and schedule of a training run, as one readable value each.

`nano` is the embedded default, made for two CPU cores; sources of its numbers stand beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import WhisperConfig

from omni.speech_encoder import whisper_config
from train.lm import SmallLlama
from train.loop import LoopConfig


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """How the two bases of a model without published ones are made."""

    encoder: WhisperConfig
    encoder_loop: LoopConfig
    encoder_clean_epochs: int
    lm: SmallLlama
    lm_loop: LoopConfig


def nano_bases() -> BaseRecipe:
    """A Whisper encoder of 192 x 4 and a Llama of 256 x 4, for about an hour of two cores."""
    return BaseRecipe(
        encoder=whisper_config(n_mels=80, width=192, layers=4, heads=3, ffn=768, max_frames=1000),
        # batch 32: more steps count for more than larger batches while CTC finds its alignment
        encoder_loop=LoopConfig(
            epochs=12, batch_size=32, learning_rate=1.5e-3, warmup=0.04, bf16=True,
            save_steps=200, eval_steps=400, workers=1,
        ),  # fmt: skip
        encoder_clean_epochs=2,
        lm=SmallLlama(),
        lm_loop=LoopConfig(
            epochs=40, batch_size=32, learning_rate=2e-3, weight_decay=0.1, bf16=True,
            save_steps=500, eval_steps=500,
        ),  # fmt: skip
    )
