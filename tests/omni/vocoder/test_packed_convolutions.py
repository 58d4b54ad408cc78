"""Convolutions with packed weights: the same numbers as torch's own, and only in inference."""

import copy

import pytest
import torch
from torch import Tensor, nn

from omni.vocoder import packing
from omni.vocoder.packing import PackedWeight
from omni.vocoder.stream_layers import SameConv, Signal, Upsampling, in_turn

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes that were convolved with packed weights, which pay here whatever was measured."""
    shapes: list[torch.Size] = []
    convolved, transposed = PackedWeight.convolved, PackedWeight.transposed

    def noted(packed: PackedWeight, layer: nn.Conv1d, x: Tensor) -> Tensor:
        shapes.append(x.shape)
        return convolved(packed, layer, x)

    def noted_transposed(packed: PackedWeight, layer: nn.ConvTranspose1d, x: Tensor) -> Tensor:
        shapes.append(x.shape)
        return transposed(packed, layer, x)

    monkeypatch.setattr(PackedWeight, "convolved", noted)
    monkeypatch.setattr(PackedWeight, "transposed", noted_transposed)
    monkeypatch.setattr(packing, "one_dnn_is_quicker", lambda: True)
    return shapes


def stepped(layer: SameConv | Upsampling, x: Tensor, sizes: list[int]) -> Tensor:
    """The layer's outputs for a signal that comes in stretches of these sizes and then ends."""
    state, made = layer.initial_state(len(x)), []
    parts = x.split(sizes, dim=-1)
    for number, part in enumerate(parts, 1):
        ends = number == len(parts)
        signal = Signal(part, part.shape[-1], 0 if ends else None)
        y, state = layer.step(signal, state, 0 if ends else None)
        made.append(y.values)
    return torch.cat(made, dim=-1)


@pytest.mark.parametrize("seed", range(8))
def test_steps_of_a_convolution_give_what_torch_gives_for_the_whole(
    seed: int, taken: list[torch.Size]
) -> None:
    draw = torch.Generator().manual_seed(seed)

    def pick(*choices: int) -> int:
        return choices[int(torch.randint(len(choices), (), generator=draw))]

    layer = SameConv(
        pick(1, 3, 16, 40),
        pick(1, 5, 16, 33),
        pick(1, 3, 7, 11),
        causal=bool(pick(0, 1)),
        dilation=pick(1, 3, 5),
    )
    x = torch.randn(pick(1, 3), layer.in_channels, 90, generator=draw)
    with torch.no_grad():
        whole = layer(x)
    assert taken == []
    with torch.inference_mode():
        torch.testing.assert_close(stepped(layer, x, [40, 1, 9, 40]), whole)
    assert taken


@pytest.mark.parametrize(("kernel", "rate"), [(11, 5), (8, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("rows", [1, 3])
def test_steps_of_an_upsampling_give_what_torch_gives_for_the_whole(
    kernel: int, rate: int, rows: int, taken: list[torch.Size]
) -> None:
    layer, x = Upsampling(24, 10, kernel, rate), torch.randn(rows, 24, 30)
    with torch.no_grad():
        whole = layer(x)
    with torch.inference_mode():
        torch.testing.assert_close(stepped(layer, x, [10, 1, 19]), whole)
    assert len(taken) == 3


def test_signals_may_lie_in_memory_in_any_order(taken: list[torch.Size]) -> None:
    layer, x = SameConv(6, 4, 3), torch.randn(2, 6, 20)
    with torch.inference_mode():
        by_place = x.transpose(1, 2).contiguous().transpose(1, 2)
        torch.testing.assert_close(stepped(layer, by_place, [20]), stepped(layer, x, [20]))
        assert in_turn(x, by_place).stride(1) == 1
        assert torch.equal(in_turn(x, by_place), in_turn(by_place, x))
    assert len(taken) == 2


def test_what_trains_is_left_to_torch_and_has_its_gradients(taken: list[torch.Size]) -> None:
    conv, up = SameConv(4, 4, 3), Upsampling(4, 4, 4, 2)
    x = torch.randn(1, 4, 12)
    stepped(up, stepped(conv, x, [12]), [12]).sum().backward()
    assert conv.weight.grad is not None and up.weight.grad is not None
    with torch.no_grad():  # the frozen parts of a model in training
        stepped(up, stepped(conv, x, [12]), [12])
    assert taken == []


def test_other_types_and_weights_whose_changes_are_not_counted_are_left_to_torch(
    taken: list[torch.Size],
) -> None:
    x = torch.randn(1, 4, 12)
    with torch.inference_mode():
        for dtype in (torch.float64, torch.bfloat16):
            assert stepped(SameConv(4, 4, 3).to(dtype), x.to(dtype), [12]).dtype == dtype
        with torch.autocast("cpu", dtype=torch.bfloat16):
            stepped(SameConv(4, 4, 3), x, [12])
    layer = SameConv(4, 4, 3)
    with torch.inference_mode():
        layer.weight = nn.Parameter(layer.weight.clone(), requires_grad=False)
        stepped(layer, x, [12])
    assert taken == []


def test_nothing_is_packed_where_onednn_is_not_quicker(
    taken: list[torch.Size], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "one_dnn_is_quicker", lambda: False)
    with torch.inference_mode():
        stepped(SameConv(4, 4, 3), torch.randn(1, 4, 12), [12])
    assert taken == []


def test_a_weight_that_changes_is_packed_anew() -> None:
    layer, x = SameConv(4, 4, 3), torch.randn(1, 4, 12)
    with torch.inference_mode():
        before = stepped(layer, x, [12])
    with torch.no_grad():
        layer.weight.mul_(2.0)
        layer.bias.mul_(2.0)  # pyright: ignore[reportOptionalMemberAccess]  (it has one)
    with torch.inference_mode():
        torch.testing.assert_close(stepped(layer, x, [12]), 2 * before)


def test_a_copy_of_a_layer_that_has_packed_its_weight_has_a_weight_of_its_own() -> None:
    layer, x = SameConv(4, 4, 3), torch.randn(1, 4, 12)
    with torch.inference_mode():
        before = stepped(layer, x, [12])
    names = list(layer.state_dict())
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight.zero_()
    assert names == ["weight", "bias"]
    with torch.inference_mode():
        torch.testing.assert_close(stepped(layer, x, [12]), before)
        assert not torch.allclose(stepped(other, x, [12]), before)
