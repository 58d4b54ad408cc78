"""The float64 copy of a small network: made once, and never older than the weights."""

import copy
import pickle

import pytest
import torch
from torch import nn

from omni.vocoder.exact_copy import ExactCopy


def network(value: float = 1.0) -> nn.Linear:
    made = nn.Linear(2, 1)
    nn.init.constant_(made.weight, value)
    return made


def test_it_is_made_once() -> None:
    holder: ExactCopy[nn.Linear] = ExactCopy()
    module = network()
    exact = holder.of(module)
    assert exact is holder.of(module) and exact is not module
    assert exact.weight.dtype == torch.float64 and not exact.weight.requires_grad
    with torch.inference_mode():
        assert holder.of(module) is exact


@pytest.mark.parametrize(
    "change",
    [
        lambda module: nn.init.constant_(module.weight, 3.0),
        lambda module: module.load_state_dict(network(3.0).state_dict()),
        lambda module: module.load_state_dict(network(3.0).state_dict(), assign=True),
        lambda module: setattr(module, "weight", nn.Parameter(torch.full((1, 2), 3.0))),
        lambda module: setattr(module.weight, "data", torch.full((1, 2), 3.0)),
    ],
    ids=["in place", "loaded", "assigned", "replaced", "its data"],
)
def test_it_follows_changes_of_the_weights(change) -> None:
    holder: ExactCopy[nn.Linear] = ExactCopy()
    module = network()
    holder.of(module)
    change(module)
    assert holder.of(module).weight.tolist() == [[3.0, 3.0]]


def test_it_follows_weights_that_are_moved() -> None:
    holder: ExactCopy[nn.Linear] = ExactCopy()
    module = network(1 + 2**-10)
    before = holder.of(module)
    module.to(torch.bfloat16)
    assert before.weight[0, 0] != 1.0 and holder.of(module).weight[0, 0] == 1.0


def test_a_step_of_training_is_followed() -> None:
    holder: ExactCopy[nn.Linear] = ExactCopy()
    module = network()
    before = holder.of(module).weight.clone()
    module(torch.ones(1, 2)).sum().backward()
    torch.optim.AdamW(module.parameters(), lr=0.1).step()
    assert not torch.equal(holder.of(module).weight, before)


def test_weights_of_inference_mode_are_never_out_of_date() -> None:
    holder: ExactCopy[nn.Linear] = ExactCopy()
    with torch.inference_mode():
        module = network()
        holder.of(module)
        module.weight.fill_(3.0)
        assert holder.of(module).weight.tolist() == [[3.0, 3.0]]


def test_a_copy_of_the_holder_begins_empty() -> None:
    holder: ExactCopy[nn.Linear] = ExactCopy()
    exact = holder.of(network())
    for again in (copy.deepcopy(holder), pickle.loads(pickle.dumps(holder))):
        assert again.of(network(2.0)) is not exact
