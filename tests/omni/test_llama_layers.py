"""Our Llama layers against transformers' own model, and the positions they turn by."""

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from omni.llama_layers import LlamaLayer, RotaryPositions, rotary_frequencies

WIDTH, HEADS, FFN, LAYERS, EPS = 32, 4, 48, 2, 1e-5
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,  # short: all three bands are met within the test
}
SCALINGS = [{}, {"rope_type": "linear", "factor": 4.0}, LLAMA3]


def transformers_llama(scaling: dict) -> LlamaModel:
    """The same sizes in transformers' words; its last norm made to do nothing."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=7, hidden_size=WIDTH, intermediate_size=FFN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, rms_norm_eps=EPS,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0, **scaling},
    )  # fmt: skip
    model = LlamaModel(config).eval()
    for parameter in model.parameters():  # fresh weights hardly attend
        torch.nn.init.normal_(parameter, std=0.3)
    model.norm = torch.nn.Identity()
    return model


def our_layers(theirs: LlamaModel) -> torch.nn.ModuleList:
    layers = torch.nn.ModuleList(
        LlamaLayer(width=WIDTH, heads=HEADS, ffn=FFN, rms_norm_eps=EPS) for _ in range(LAYERS)
    )
    layers.load_state_dict(theirs.layers.state_dict())
    return layers


@pytest.mark.parametrize("scaling", SCALINGS, ids=["plain", "linear", "llama3"])
def test_layers_give_what_transformers_llama_gives_in_values_and_gradients(scaling: dict) -> None:
    theirs = transformers_llama(scaling)
    ours = our_layers(theirs)
    x = torch.randn(2, 90, WIDTH)
    rotary = RotaryPositions(WIDTH // HEADS, 500.0, scaling)
    mine = x.clone().requires_grad_()
    output = mine
    for layer in ours:
        output = layer(output, rotary(torch.arange(90)[None], torch.float32))
    reference_input = x.clone().requires_grad_()
    reference = theirs(inputs_embeds=reference_input).last_hidden_state
    torch.testing.assert_close(output, reference, atol=1e-4, rtol=1e-4)
    output.square().mean().backward()
    reference.square().mean().backward()
    torch.testing.assert_close(mine.grad, reference_input.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("scaling", SCALINGS, ids=["plain", "linear", "llama3"])
def test_frequencies_are_those_of_transformers(scaling: dict) -> None:
    expected = transformers_llama(scaling).rotary_emb.inv_freq
    torch.testing.assert_close(
        rotary_frequencies(WIDTH // HEADS, 500.0, scaling), expected, atol=0, rtol=1e-6
    )


def test_positions_are_exact_for_layers_in_bfloat16_and_built_without_memory() -> None:
    with torch.device("meta"):
        rotary = RotaryPositions(8, 10_000.0, {})
    far = torch.tensor([[6_400]])
    cosines, sines = rotary(far, torch.bfloat16)
    angles = 6_400 * 10_000.0 ** -(torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    expected = torch.cat([angles, angles])
    assert cosines.dtype == sines.dtype == torch.bfloat16
    # A frequency in bfloat16 would be off by 12 radians at this position.
    torch.testing.assert_close(cosines[0, 0, 0].double(), expected.cos(), atol=5e-3, rtol=0)
    torch.testing.assert_close(sines[0, 0, 0].double(), expected.sin(), atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("scaling", "says"),
    [
        ({"rope_type": "yarn", "factor": 4.0}, "rope_type='yarn'; must be one of default, linear"),
        ({"rope_type": "llama3", "factor": 8.0}, "'original_max_position_embeddings' is missing"),
    ],
)
def test_a_scaling_that_is_unknown_or_incomplete_is_refused_by_name(scaling, says) -> None:
    with pytest.raises(ValueError, match=says):
        rotary_frequencies(8, 10_000.0, scaling)
