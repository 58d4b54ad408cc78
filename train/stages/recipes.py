"""Recipes: every size and schedule of a training run, as one readable value each.

`nano` is the embedded default, made for two CPU cores; sources of its numbers stand beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from data_tools.speech import AugmentConfig
from omni.prompt import PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from omni.speech_encoder import SpeechEncoderConfig
from omni.vocoder import HifiGanConfig, NsfConfig
from train.bases import NANO_PROMPT, SmallLlama
from train.loop import LoopConfig
from train.stages.align import Align
from train.stages.block_wise import Blocks
from train.stages.stage1 import Lora, Stage1
from train.stages.stage2 import Stage2
from train.voice import DiscriminatorConfig

NANO_WORD_DROPOUT = 0.2  # loss on held-out wordings after 1,500 steps: 0.56 without (decisions.md)


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """How the two bases of a model without published ones are made.

    encoder_loop: of the clean and then augmented epochs; encoder_again: another round from there,
    augmented throughout, so that each can be made and kept by itself. lm_word_dropout: of what
    the LLM reads.
    """

    encoder: SpeechEncoderConfig
    encoder_loop: LoopConfig
    encoder_clean_epochs: int
    encoder_again: LoopConfig
    lm: SmallLlama
    lm_loop: LoopConfig
    lm_word_dropout: float


def nano_bases() -> BaseRecipe:
    """A Whisper encoder of 256 x 4 and a Llama of 256 x 4, for less than two hours of two cores."""
    # batch 32: more steps count for more than larger batches while CTC finds its alignment
    encoder_loop = LoopConfig(
        epochs=6,  # of 23,000 recordings
        batch_size=32,
        learning_rate=1.5e-3,
        warmup=0.04,
        bf16=True,
        save_steps=200,
        eval_steps=400,
        workers=1,
    )
    return BaseRecipe(
        encoder=SpeechEncoderConfig(
            n_mels=80,
            width=256,
            layers=4,
            heads=4,
            ffn=1024,
            max_frames=1000,
            # Half a second, five of the adapter's positions; 2 s before it are seen as well.
            block_frames=25,
            left_blocks=4,
        ),
        encoder_loop=encoder_loop,
        encoder_clean_epochs=2,
        encoder_again=replace(encoder_loop, learning_rate=1e-3),
        lm=SmallLlama(),
        lm_loop=LoopConfig(
            epochs=5,  # of 38,000 dialogues
            batch_size=32,
            learning_rate=2e-3,
            weight_decay=0.1,
            bf16=True,
            save_steps=500,
            eval_steps=500,
        ),
        lm_word_dropout=NANO_WORD_DROPOUT,
    )


@dataclass(frozen=True, kw_only=True)
class UnitsRecipe:
    """k-means on a layer of the nano's own encoder."""

    layer: int
    clusters: int
    smooth_frames: int


@dataclass(frozen=True, kw_only=True)
class VocoderRecipe:
    """An own voice. answer_share: how many times an epoch takes each answer; a reading once.
    discriminators: that it is trained against; None: by reconstruction alone."""

    architecture: HifiGanConfig | NsfConfig
    loop: LoopConfig
    answer_share: int = 1
    discriminators: DiscriminatorConfig | None = None


def nano_units() -> UnitsRecipe:
    """A low layer: further up the encoder keeps letters and forgets sounds (docs/decisions.md)."""
    return UnitsRecipe(layer=1, clusters=500, smooth_frames=1)


def nsf_vocoder(units: int) -> VocoderRecipe:
    """The light vocoder, by reconstruction alone: discriminators gave nothing in this time."""
    return VocoderRecipe(
        # Less would come out of the pitch's and the trunk's look-ahead: 40 and 60 ms.
        architecture=NsfConfig(num_units=units, right_context_frames=4),
        loop=LoopConfig(
            epochs=24,  # of 1 s from each of 5,700 clips
            batch_size=16,
            learning_rate=1e-3,
            bf16=True,
            save_steps=500,
            eval_steps=500,
        ),
    )


def hifigan_vocoder(units: int) -> VocoderRecipe:
    """The published size, at the published rate, against discriminators (Kong et al. 2020)."""
    light = nsf_vocoder(units)
    return VocoderRecipe(
        architecture=HifiGanConfig(num_embeddings=units),
        loop=replace(light.loop, learning_rate=2e-4),
        discriminators=DiscriminatorConfig(),
    )


def nano_vocoder() -> VocoderRecipe:
    """The NSF vocoder for the nano's units; an epoch takes each answer three times."""
    return replace(nsf_vocoder(nano_units().clusters), answer_share=3)


def nano_stage1() -> Stage1:
    """Adapter and LLM from 14 h of questions; a fifth in writing keeps the LLM able to read."""
    return Stage1(
        adapter=SpeechAdapterConfig(stack=5, hidden=768),
        prompt=NANO_PROMPT,
        # 25 times the published rate: the LLM is a thousand times smaller
        loop=LoopConfig(
            epochs=7,
            batch_size=32,
            learning_rate=1e-3,
            weight_decay=0.05,
            bf16=True,
            save_steps=250,
            eval_steps=250,
        ),
        text_share=0.2,
        word_dropout=NANO_WORD_DROPOUT,
        augmentation=AugmentConfig(),
        cached_variants=2,
        frame_masking=0.1,
    )


def nano_stage2() -> Stage2:
    """A unit decoder of 1.7 M parameters above the nano's states."""
    return Stage2(
        hearing=replace(nano_stage1(), cached_variants=1),  # with clean and written: 3 in 3 epochs
        loop=LoopConfig(
            epochs=3,
            batch_size=32,
            learning_rate=1e-3,
            bf16=True,
            save_steps=250,
            eval_steps=250,
        ),
        units=nano_units().clusters,
        width=256,
        layers=2,
        heads=4,
        ffn=704,
        upsample=25,  # its answers need at most 20 units per text token
        step_embedding=True,
    )


def _published_loop(learning_rate: float) -> LoopConfig:
    """Batch 32, 3 epochs, in both stages of LLaMA-Omni (arXiv 2409.06666, section 3.2)."""
    return LoopConfig(
        epochs=3,
        batch_size=8,
        accumulate=4,
        learning_rate=learning_rate,
        bf16=True,
        workers=4,
        save_steps=500,
        eval_steps=500,
    )


def published_stage1() -> Stage1:
    """LLaMA-Omni's stage 1: 2e-5, the full LLM."""
    return Stage1(
        adapter=SpeechAdapterConfig(stack=5, hidden=2048),
        prompt=PromptConfig(),
        loop=_published_loop(2e-5),
        gradient_checkpointing=True,
    )


def lora_stage1() -> Stage1:
    """The same with LoRA: full fine-tuning cost LLaMA-Omni most of its refusals."""
    return replace(
        published_stage1(),
        loop=_published_loop(2e-4),  # LoRA's usual rate (Hu et al. 2021): ten times full tuning's
        language_model="lora",
        lora=Lora(rank=16, alpha=32),
    )


def frozen_stage1() -> Stage1:
    """The adapter alone, the LLM as it is; SLAM-ASR's rate (Ma et al. 2024, arXiv 2402.08846)."""
    return replace(published_stage1(), loop=_published_loop(1e-4), language_model="frozen")


def align_recipe(hearing: Stage1) -> Align:
    """The adapter of that stage 1; no LLM runs, so two cores do some 60 questions a second."""
    return Align(
        hearing=hearing,
        loop=LoopConfig(
            epochs=8,
            batch_size=32,
            learning_rate=1.5e-3,
            weight_decay=0.01,
            save_steps=500,
            eval_steps=500,
        ),
    )


def blocks_recipe() -> Blocks:
    """An encoder that hears in blocks, from questions alone.

    LoRA as on the LLM; five times its rate, for what is learnt is a small correction of each frame.
    """
    return Blocks(
        loop=LoopConfig(
            epochs=1,
            max_steps=1500,
            batch_size=8,
            learning_rate=1e-3,
            weight_decay=0.0,  # LoRA's zero is the encoder as it was
            save_steps=100,
            eval_steps=500,
        ),
        lora=Lora(rank=16, alpha=32),
        augmentation=AugmentConfig(),
    )


def published_stage2(width: int, heads: int, ffn: int) -> Stage2:
    """LLaMA-Omni's stage 2: 2e-4; two layers as wide as the LLM's own."""
    return Stage2(
        hearing=published_stage1(),
        loop=_published_loop(2e-4),
        units=1000,
        width=width,
        layers=2,
        heads=heads,
        ffn=ffn,
    )
