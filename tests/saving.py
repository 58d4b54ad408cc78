"""Models that are read, trained a little and compared: shared by the tests of saving."""

from pathlib import Path

import torch
from peft import LoraConfig
from torch import nn

from omni.model import OmniForConditionalGeneration
from tests.tiny import question, tiny_processor

PARTS = ("speech_encoder", "speech_adapter", "language_model", "unit_decoder", "vocoder")


def lora(**settings) -> LoraConfig:
    """peft writes into the one that it is given, so each wrap has its own."""
    return LoraConfig(**({"r": 2, "lora_alpha": 4, "target_modules": "all-linear"} | settings))


def assert_same(one: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), atol=0, rtol=0)


def read(folder: Path, **kwargs) -> OmniForConditionalGeneration:
    return OmniForConditionalGeneration.from_pretrained(folder, **kwargs)


@torch.no_grad()
def train_by_hand(module: nn.Module) -> None:
    """One weight of the last matrix moves a little, as a first step of an optimiser's would."""
    *_, last = (weight for weight in module.parameters() if weight.dim() >= 2)
    last.view(-1)[0] += 0.01


def shake(model: OmniForConditionalGeneration) -> None:
    for name, parameter in model.language_model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)


@torch.no_grad()
def heard(model: OmniForConditionalGeneration) -> torch.Tensor:
    return model.eval()(**tiny_processor()(audio=question())).logits
