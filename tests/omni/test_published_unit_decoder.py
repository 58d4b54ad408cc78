"""The unit decoder beside the public code: of the same weights the same labels, units and loss."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from omni.ctc import best_labels, best_units, collapse, ctc_loss, initial_collapse_state
from omni.unit_decoder import UnitDecoder, UnitDecoderConfig
from omni.values import Frames
from tests.paths import DATA
from tests.ragged import frames_of

# LLaMA-Omni's own code on small random weights, with the rotary scaling of Llama 3.1.
GOLDEN = DATA / "unit_decoder"
GOLDEN_CONFIG = UnitDecoderConfig(
    input_width=64,
    width=64,
    layers=2,
    heads=4,
    ffn=128,
    num_units=1000,
    rope_theta=500_000.0,
    rope_scaling={
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "golden.npz")


@pytest.fixture(scope="module")
def facts():
    return json.loads((GOLDEN / "golden.json").read_text())


@pytest.fixture(scope="module")
def published():
    decoder = UnitDecoder(GOLDEN_CONFIG)
    decoder.load_state_dict(
        {name: value.float() for name, value in load_file(GOLDEN / "decoder.safetensors").items()}
    )
    return decoder


@pytest.mark.parametrize("question", ["question_slt", "question_rms", "text_only"])
def test_published_weights_give_the_labels_of_the_public_code(published, golden, facts, question):
    hidden = torch.from_numpy(golden[f"{question}.hidden"])[None]
    scores = published(Frames(hidden, torch.tensor([hidden.shape[1]])))
    labels = best_labels(scores)[0]
    assert np.array_equal(labels.numpy(), golden[f"{question}.ctc_argmax"])
    assert best_units(scores) == [facts["units"][question]]
    best = scores.values[0].topk(2).values
    margin = (best[:, 0] - best[:, 1]).detach().numpy()
    np.testing.assert_allclose(margin, golden[f"{question}.ctc_margin"], atol=1e-3)


@pytest.mark.parametrize("question", ["question_slt", "question_rms"])
def test_published_weights_give_the_logits_of_the_public_code(published, golden, question):
    hidden = torch.from_numpy(golden[f"{question}.hidden"])[None]
    scores = published(Frames(hidden, torch.tensor([hidden.shape[1]])))
    logits = torch.from_numpy(golden[f"{question}.ctc_logits_first75"])  # its first 25 steps
    difference = scores.values[0, : len(logits)] - logits.log_softmax(-1)
    assert difference.abs().max() < 1e-3


@pytest.mark.parametrize("question", ["question_slt", "question_rms"])
def test_token_by_token_each_step_speaks_the_units_of_the_public_code(
    published, golden, facts, question
):
    state, last = published.initial_state(1), initial_collapse_state(1000)
    for hidden, expected in zip(
        torch.from_numpy(golden[f"{question}.hidden"]),
        facts["stream_units_per_step"][question],
        strict=True,
    ):
        scores, state = published.step(Frames(hidden[None, None], torch.tensor([1])), state)
        units, last = collapse(best_labels(scores)[0], last, 1000)
        assert units == expected


@pytest.mark.parametrize("case", ["b1", "infeasible"])
def test_loss_and_gradients_are_those_of_the_public_code(published, golden, facts, case):
    truth = facts[case]
    rows = [
        torch.from_numpy(golden[f"train.{case}.{row}"]) for row in range(len(truth["units"]))
    ]  # the public code reads the states at the answer tokens
    published.zero_grad()
    units = torch.tensor(truth["units"])  # padded with -100
    loss = ctc_loss(published(frames_of(rows)), units, (units >= 0).sum(-1))
    loss.backward()
    assert loss.item() == pytest.approx(truth["ctc_loss"], rel=1e-5)
    norms = {name: float(value.grad.norm()) for name, value in published.named_parameters()}
    # In float64 these norms move by 2e-3: what float32 keeps of CTC's sums over paths.
    assert norms == pytest.approx(truth["grad_norm"], rel=3e-3)
    if case == "b1":
        expected = torch.from_numpy(golden["train.b1.grad.input_proj.weight"])
        torch.testing.assert_close(published.input_proj.weight.grad, expected, atol=1e-2, rtol=1e-3)


def test_the_published_size_has_the_papers_parameters():
    with torch.device("meta"):
        decoder = UnitDecoder(
            UnitDecoderConfig(
                input_width=4096, width=4096, layers=2, heads=32, ffn=11008, num_units=1000
            )
        )
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 425_649_129
