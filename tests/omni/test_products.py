"""Products by oneDNN: the same numbers as torch's own, and only where nothing trains."""

from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni import products
from omni.files import measured_once
from omni.products import QuickLinear, is_clearly_quicker, one_dnn, quicken
from omni.unit_decoder import UnitDecoder, UnitDecoderConfig
from omni.values import Frames

needs_one_dnn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes that oneDNN was given; all products are worth it."""
    shapes: list[torch.Size] = []

    def noted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        shapes.append(x.shape)
        return one_dnn(x, weight, bias)

    monkeypatch.setattr(products, "one_dnn", noted)
    monkeypatch.setattr(products, "WORTH_IT", 0)
    monkeypatch.setattr(products, "one_dnn_is_quicker", lambda: True)
    return shapes


def quick(wide: int, high: int, **kwargs: Any) -> QuickLinear:
    layer = nn.Linear(wide, high, **kwargs)
    quicken(layer)
    assert isinstance(layer, QuickLinear)
    return layer


@needs_one_dnn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (3, 5, 24), (2, 0, 24)])
def test_a_quick_layer_gives_what_a_linear_layer_gives(
    shape: tuple[int, ...], bias: bool, taken: list[torch.Size]
) -> None:
    layer, x = quick(24, 10, bias=bias), torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    assert taken == [x.shape]


@needs_one_dnn
def test_inputs_and_weights_may_lie_in_memory_in_any_order(taken: list[torch.Size]) -> None:
    layer, x = quick(24, 10), torch.randn(24, 6, 4).transpose(0, 2)
    layer.weight.data = layer.weight.data.t().contiguous().t()
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    assert taken == [x.shape]


def test_what_trains_is_left_to_torch_and_has_its_gradients(taken: list[torch.Size]) -> None:
    layer, x = quick(24, 10), torch.randn(2, 24)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad():  # the frozen parts of a model in training
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    assert taken == []


def test_other_types_and_small_products_are_left_to_torch(
    taken: list[torch.Size], monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.inference_mode():
        for dtype in (torch.bfloat16, torch.float64):
            assert quick(24, 10, dtype=dtype)(torch.randn(2, 24, dtype=dtype)).dtype == dtype
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert quick(24, 10)(torch.randn(2, 24)).dtype == torch.bfloat16
        monkeypatch.setattr(products, "WORTH_IT", 2 * 24 * 10 + 1)
        quick(24, 10)(torch.randn(2, 24))
    assert taken == []


class Packed(nn.Linear):
    """A layer of another kind, such as a quantised one."""


def test_quickened_are_plain_linear_layers_alone_and_their_weights_stay(
    taken: list[torch.Size],
) -> None:
    del taken
    tied = nn.Linear(4, 4)
    model = nn.ModuleDict(
        {"plain": nn.Linear(4, 4), "packed": Packed(4, 4), "conv": nn.Conv1d(4, 4, 1)}
    )
    model["plain"].weight = tied.weight
    names, weights = list(model.state_dict()), list(model.parameters())
    quicken(model)
    assert [type(layer) for layer in model.values()] == [QuickLinear, Packed, nn.Conv1d]
    assert list(model.state_dict()) == names
    assert all(old is new for old, new in zip(weights, model.parameters(), strict=True))
    assert model["plain"].weight is tied.weight


def test_nothing_is_quickened_where_onednn_is_not_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "one_dnn_is_quicker", lambda: False)
    layer = nn.Linear(4, 4)
    quicken(layer)
    assert type(layer) is nn.Linear


@pytest.mark.parametrize(("share", "quicker"), [(0.5, True), (0.79, True), (0.9, False)])
def test_onednn_must_be_clearly_quicker_in_its_best_try(share: float, quicker: bool) -> None:
    load = chain([9.0, 9.0, 1.0, 1.0, 5.0, 1.0, 1.0, 7.0], repeat(1.0))

    def seconds(product: Callable[..., Tensor]) -> float:
        return next(load) * (share if product is one_dnn else 1.0)

    assert is_clearly_quicker(seconds) is quicker


def test_a_measurement_is_made_once_and_remembered(tmp_path: Path) -> None:
    memory, made = tmp_path / "products.json", [True, False]
    assert measured_once(memory, "this machine", lambda: made.pop(0))
    assert measured_once(memory, "this machine", lambda: made.pop(0))
    assert not measured_once(memory, "another", lambda: made.pop(0))
    memory.write_text('{"this machine": "yes"}')  # what is no answer is measured again
    assert measured_once(memory, "this machine", lambda: True)


@needs_one_dnn
def test_steps_of_a_quickened_unit_decoder_give_what_its_plain_whole_gives(
    taken: list[torch.Size],
) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(
        input_width=8, width=16, layers=2, heads=2, ffn=24, num_units=11, upsample=5
    )
    decoder = UnitDecoder(UnitDecoderConfig(**sizes)).eval()
    values = torch.randn(2, 6, 8)
    with torch.no_grad():
        whole = decoder(Frames(values, torch.tensor([6, 6]))).values
    quicken(decoder)
    with torch.inference_mode():
        state, heard = decoder.initial_state(2), []
        for place in range(6):
            new = Frames(values[:, place : place + 1], torch.tensor([1, 1]))
            scores, state = decoder.step(new, state)
            heard.append(scores.values)
    torch.testing.assert_close(torch.cat(heard, dim=1), whole, atol=1e-4, rtol=0)
    assert len(taken) == 6 * (2 * 7 + 2)
