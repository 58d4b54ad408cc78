"""The full-size recipes have the sizes that are published, counted on the meta device."""

from functools import cache

import pytest
import torch
from torch import nn

from omni.config import OmniConfig
from omni.model import OmniForConditionalGeneration
from omni.vocoder import UnitHifiGan
from train.stages.recipes_published import PUBLISHED

# Of each LLM, as its publisher counts it.
LANGUAGE_MODELS = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "qwen": 1_543_714_304,
    "smollm": 361_821_120,
}
recipes = pytest.mark.parametrize("name", PUBLISHED)


def parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@cache
def built(name: str) -> OmniForConditionalGeneration:
    with torch.device("meta"):
        return OmniForConditionalGeneration(PUBLISHED[name]().config())


@recipes
def test_the_language_model_has_its_published_size(name):
    assert parameters(built(name).language_model) == LANGUAGE_MODELS[name]


def test_adapter_and_unit_decoder_of_the_paper_have_their_published_sizes():
    model = built("llama-3.1-8b")
    assert parameters(model.speech_adapter) == 21_501_952
    assert parameters(model.unit_decoder) == 425_649_129


@recipes
def test_the_vocoder_has_its_published_size(name):
    with torch.device("meta"):
        vocoder = UnitHifiGan(PUBLISHED[name]().vocoder)
    # Published with weight norm: a magnitude for each slice of every convolution's first axis.
    magnitudes = sum(
        module.weight.shape[0]
        for part, module in vocoder.named_modules()
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)) and "dur_predictor" not in part
    )
    assert parameters(vocoder) + magnitudes == 13_485_443


@recipes
def test_the_stages_fit_together(name):
    recipe, model = PUBLISHED[name](), built(name)
    adapter = model.speech_adapter
    assert adapter.linear1.in_features == 5 * recipe.encoder.width
    assert adapter.linear2.out_features == model.config.hidden_size
    assert model.unit_decoder.input_proj.in_features == model.config.hidden_size
    units = model.unit_decoder.config.num_units
    assert units == recipe.vocoder.num_embeddings == 1000


@recipes
def test_a_recipes_config_comes_back_from_disk_as_it_was(tmp_path, name):
    config = PUBLISHED[name]().config()
    config.save_pretrained(tmp_path)
    again = OmniConfig.from_pretrained(tmp_path)
    assert type(again.text_config) is type(config.text_config)
    with torch.device("meta"):
        model = OmniForConditionalGeneration(again)
    assert parameters(model) == parameters(built(name))


def test_the_papers_numbers_of_both_stages():
    recipe = PUBLISHED["llama-3.1-8b"]()
    for loop, rate in ((recipe.stage2.hearing.loop, 2e-5), (recipe.stage2.loop, 2e-4)):
        assert loop.batch_size * loop.accumulate == 32
        assert (loop.epochs, loop.learning_rate, loop.warmup) == (3, rate, 0.03)
