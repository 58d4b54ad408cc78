"""The mini's numbers, all of them: a small real Whisper and a small real Llama, for CPU cores.

The bases keep their weights; the adapter, LoRA on the LLM, the unit decoder and the vocoder are
trained. Other bases of their kinds take the same numbers.
"""

from __future__ import annotations

from dataclasses import replace

from omni.prompt import PromptConfig
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
    """Adapter and LoRA from clean recordings, encoded once; a tenth is put in writing."""
    return Stage1(
        adapter=SpeechAdapterConfig(stack=5, hidden=1024),
        prompt=PromptConfig(),
        loop=LoopConfig(
            epochs=1,
            max_steps=2500,  # of 16: 40,000 questions
            batch_size=16,
            learning_rate=6e-4,
            bf16=True,
            save_steps=100,
            eval_steps=250,
        ),
        language_model="lora",
        lora=Lora(rank=16, alpha=32),
        text_share=0.1,
        cached_variants=0,
    )


def mini_align() -> Align:
    """The adapter alone, before stage 1: some minutes."""
    recipe = align_recipe(mini_stage1())
    loop = replace(recipe.loop, max_steps=1000, batch_size=32, learning_rate=1.5e-3, save_steps=200)
    return replace(recipe, loop=loop)


def mini_units() -> UnitsRecipe:
    """A low layer, as the nano's: further up an encoder forgets sounds (docs/decisions.md)."""
    return UnitsRecipe(layer=2, clusters=500, smooth_frames=1)


def mini_vocoder() -> VocoderRecipe:
    """The nano's vocoder: the voice is the same, and so are its 80 ms of right context."""
    return replace(nsf_vocoder(mini_units().clusters), answer_share=3)


def mini_stage2() -> Stage2:
    """The nano's unit decoder, above states that are twice as wide."""
    return replace(nano_stage2(), hearing=mini_stage1(), units=mini_units().clusters)
