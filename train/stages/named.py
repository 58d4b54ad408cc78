"""The names that recipes are asked for by."""

from __future__ import annotations

from collections.abc import Callable

from train.stages.recipes import (
    BaseRecipe,
    UnitsRecipe,
    VocoderRecipe,
    frozen_stage1,
    hifigan_vocoder,
    lora_stage1,
    nano_bases,
    nano_stage1,
    nano_stage2,
    nano_units,
    nsf_vocoder,
    published_stage1,
    published_stage2,
)
from train.stages.recipes_mini import mini_stage1, mini_stage2
from train.stages.stage1 import Stage1
from train.stages.stage2 import Stage2

BASES: dict[str, Callable[[], BaseRecipe]] = {"nano": nano_bases}
UNITS: dict[str, Callable[[], UnitsRecipe]] = {"nano": nano_units}
STAGE1: dict[str, Callable[[], Stage1]] = {
    "nano": nano_stage1,
    "mini": mini_stage1,
    "published": published_stage1,
    "lora": lora_stage1,
    "frozen": frozen_stage1,
}
STAGE2: dict[str, Callable[[], Stage2]] = {
    "nano": nano_stage2,
    "mini": mini_stage2,
    # Llama-3.2-1B is 2048 wide, Llama-3.1-8B 4096.
    "llama-3.2-1b": lambda: published_stage2(width=2048, heads=16, ffn=5504),
    "llama-3.1-8b": lambda: published_stage2(width=4096, heads=32, ffn=11008),
    # Qwen2.5-1.5B is 1536 wide, SmolLM2-360M 960; their decoders are our choice, not the paper's.
    "qwen": lambda: published_stage2(width=1536, heads=12, ffn=4096),
    "smollm": lambda: published_stage2(width=960, heads=15, ffn=2560),
}
VOCODER: dict[str, Callable[[int], VocoderRecipe]] = {
    "nsf": nsf_vocoder,
    "hifigan": hifigan_vocoder,
}
