"""The mini's numbers, all of them: a small real Whisper and a small real Llama, for CPU cores.

The bases keep their weights; the adapter, LoRA on the LLM, the unit decoder and the vocoder are
trained. Other bases of their kinds take the same numbers.
"""

from __future__ import annotations

from dataclasses import replace

from data_tools.speech import AugmentConfig
from omni.prompt import SPEECH, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from train.loop import LoopConfig
from train.stages.align import Align
from train.stages.recipes import (
    UnitsRecipe,
    VocoderRecipe,
    align_recipe,
    nano_stage2,
    nsf_vocoder,
)
from train.stages.stage1 import Lora, Stage1
from train.stages.stage2 import Stage2


def mini_stage1() -> Stage1:
    """LoRA above an aligned adapter, which stays; every question heard clean and once augmented.

    A tenth is in writing. The prompt of a spoken question is that of a written one: no line around
    it, for what the adapter gives are the LLM's own embeddings; and each position costs.
    """
    return Stage1(
        adapter=SpeechAdapterConfig(stack=5, hidden=1536),
        prompt=PromptConfig(speech_line=SPEECH, system="You are Mini, a helpful assistant."),
        loop=LoopConfig(
            epochs=1,
            max_steps=1500,  # of 16: 24,000 questions
            batch_size=16,
            learning_rate=6e-4,
            bf16=True,
            save_steps=50,
            eval_steps=250,
        ),
        language_model="lora",
        lora=Lora(rank=16, alpha=32),
        text_share=0.1,
        augmentation=AugmentConfig(),
        cached_variants=1,
        frame_masking=0.1,
        keep_adapter=True,
    )


def mini_align() -> Align:
    """The adapter alone, before stage 1: some minutes."""
    recipe = align_recipe(mini_stage1())
    loop = replace(recipe.loop, max_steps=2000, batch_size=32, learning_rate=1.5e-3, save_steps=300)
    return replace(recipe, loop=loop)


def mini_units() -> UnitsRecipe:
    """A low layer, as the nano's: further up an encoder forgets sounds (docs/decisions.md)."""
    return UnitsRecipe(layer=2, clusters=500, smooth_frames=1)


def mini_vocoder() -> VocoderRecipe:
    """The nano's vocoder, and its 80 ms of right context; fewer passes, for clips are many."""
    vocoder = nsf_vocoder(mini_units().clusters)
    loop = replace(vocoder.loop, epochs=1, max_steps=3500)
    return replace(vocoder, loop=loop, answer_share=3)


def mini_stage2() -> Stage2:
    """The nano's unit decoder, above states twice as wide, with tokens and their letters beside.

    Of a third of the answers: to run the LLM over each once takes as long as to learn from them.
    """
    nano = nano_stage2()
    return replace(
        nano,
        hearing=mini_stage1(),
        units=mini_units().clusters,
        loop=replace(nano.loop, epochs=9, max_steps=2200, learning_rate=1.5e-3),
        gate_fusion=True,
        spelling=16,  # of SmolLM2's tokens 99.7 % have no more
        answers=8_700,
        clean_alone=True,
    )
