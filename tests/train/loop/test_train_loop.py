"""The one training loop: order, freezing, and a killed run that ends like one that was not."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset

from omni.files import UserError
from train.loop import LoopConfig, last_complete_checkpoint, placement, train, trainer
from train.loop.freeze import Freeze
from train.loop.order import BucketSampler, Item
from train.loop.sharding import fsdp_config

torch.set_num_threads(1)


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    batch_size=st.integers(1, 7),
    epoch=st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_every_example_comes_once_in_an_order_of_seed_and_epoch(
    lengths: list[int], batch_size: int, epoch: int
) -> None:
    sampler = BucketSampler(lengths, batch_size, seed=3)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert Counter(item.index for item in order) == Counter(range(len(lengths)))
    assert {item.epoch for item in order} == {epoch}
    again = BucketSampler(lengths, batch_size, seed=3)
    list(again)  # another epoch before it changes nothing
    again.set_epoch(epoch)
    assert list(again) == order


def test_a_batch_holds_examples_of_like_length() -> None:
    lengths = [index % 100 for index in range(1000)]
    order = [item.index for item in BucketSampler(lengths, 10, seed=0)]
    spread = [
        max(lengths[i] for i in order[start : start + 10])
        - min(lengths[i] for i in order[start : start + 10])
        for start in range(0, 1000, 10)
    ]
    assert sum(spread) / len(spread) < 10  # in random order it would be about 82


class Line(Dataset):
    """y = 3 x, with noise that depends on epoch and index."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, item: Item | int) -> torch.Tensor:
        place = item if isinstance(item, Item) else Item(0, item)
        noise = torch.Generator().manual_seed(100 * place.epoch + place.index)
        return torch.randn(1, generator=noise) + place.index / 10


class Model(nn.Module):
    """One weight that may train, one that may not, and dropout, whose draws must resume too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.learns = nn.Linear(1, 4)
        self.stands = nn.Linear(4, 1)
        self.dropout = nn.Dropout(0.3)

    def forward(
        self, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        made = self.stands(self.dropout(self.learns(labels)))
        number = len(labels) if num_items_in_batch is None else num_items_in_batch
        return {"loss": (made - 3 * labels).square().sum() / number}


def run(output: Path, module: Model, freeze: Freeze | None = None) -> dict[str, torch.Tensor]:
    train(
        module,
        config=LoopConfig(
            epochs=4, batch_size=3, learning_rate=1e-2, save_steps=3, dtype="float32"
        ),
        output=output,
        dataset=Line(),
        lengths=[1] * 10,
        collate=lambda rows: {"labels": torch.stack(rows)},
        count=lambda batch: len(batch["labels"]),
        freeze=freeze,
    )
    return {name: value.clone() for name, value in module.state_dict().items()}


class Killed(Exception):
    pass


def killed_after(steps: int) -> Model:
    """A model whose forward raises in the step after so many."""
    module, made = Model(), []
    forward = module.forward

    def limited(labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> dict[str, torch.Tensor]:
        if len(made) == steps:
            raise Killed
        made.append(None)
        return forward(labels, num_items_in_batch)

    module.forward = limited  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize("steps", [4, 9, 14])
def test_a_killed_and_resumed_run_ends_bitwise_like_one_that_was_not(
    tmp_path: Path, steps: int
) -> None:
    whole = run(tmp_path / "whole", Model())
    with pytest.raises(Killed):
        run(tmp_path / "killed", killed_after(steps))
    assert last_complete_checkpoint(tmp_path / "killed") is not None
    resumed = run(tmp_path / "killed", Model())
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_a_half_written_checkpoint_is_removed_and_the_one_before_it_taken(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Model())
    with pytest.raises(Killed):
        run(tmp_path / "killed", killed_after(7))
    torn = tmp_path / "killed" / "checkpoint-6" / "trainer_state.json"
    torn.write_text(torn.read_text()[:40])
    assert last_complete_checkpoint(tmp_path / "killed") == str(tmp_path / "killed/checkpoint-3")
    assert not torn.parent.exists()
    resumed = run(tmp_path / "killed", Model())
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_only_what_the_recipe_names_changes(tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in Model().state_dict().items()}
    after = run(tmp_path, Model(), Freeze(("learns",)))
    for name, value in before.items():
        assert torch.equal(value, after[name]) == name.startswith("stands"), name
    kept = tmp_path / "checkpoint-16" / "model.safetensors"
    assert set(load_file(kept)) == {"learns.weight", "learns.bias"}


def test_a_frozen_run_resumes_bitwise_although_its_checkpoints_hold_only_what_trains(
    tmp_path: Path,
) -> None:
    freeze = Freeze(("learns",))
    whole = run(tmp_path / "whole", Model(), freeze)
    with pytest.raises(Killed):
        run(tmp_path / "killed", killed_after(8), freeze)
    resumed = run(tmp_path / "killed", Model(), freeze)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_gradient_outside_the_recipe_stops_training() -> None:
    module = Model()
    module(torch.ones(2, 1))["loss"].backward()
    with pytest.raises(RuntimeError, match=r"stands.weight has a gradient, but only learns may"):
        Freeze(("learns",)).check_gradients(module)


def test_a_part_that_is_not_in_the_model_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="trained part 'lerns': not in the model"):
        Freeze(("lerns",)).apply(Model())


def test_the_curves_lie_where_the_help_says(tmp_path: Path) -> None:
    run(tmp_path, Model())
    assert list((tmp_path / "runs").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("bf16", "asked", "fast", "taken"),
    [
        (True, "auto", torch.float32, torch.float32),  # the recipe's wish, on slow hardware
        (True, "auto", torch.bfloat16, torch.bfloat16),
        (False, "auto", torch.bfloat16, torch.float32),
        (False, "bfloat16", torch.float32, torch.bfloat16),
        (True, "float32", torch.bfloat16, torch.float32),
    ],
)
def test_a_loop_multiplies_in_what_was_asked_for_or_is_fast(
    bf16: bool, asked: str, fast: torch.dtype, taken: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": fast}
    monkeypatch.setattr("train.loop.loop.choose_dtype", lambda name, device: named[name])
    config = LoopConfig(
        epochs=1, batch_size=2, learning_rate=1e-3, bf16=bf16, device="cpu", dtype=asked
    )
    assert placement(config) == (torch.device("cpu"), taken)


def test_a_recipe_of_many_workers_starts_no_more_than_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    started: list[int] = []
    make = trainer.DataLoader

    def counting(*given: Any, num_workers: int, **options: Any) -> Any:
        started.append(num_workers)
        return make(*given, num_workers=0, **options)

    monkeypatch.setattr(trainer, "DataLoader", counting)
    train(
        Model(),
        config=LoopConfig(
            epochs=1, batch_size=5, learning_rate=1e-2, workers=4, device="cpu", dtype="float32"
        ),
        output=tmp_path,
        dataset=Line(),
        lengths=[1] * 10,
        collate=lambda rows: {"labels": torch.stack(rows)},
        count=lambda batch: len(batch["labels"]),
    )
    assert started and set(started) == {1}


@pytest.mark.parametrize(
    ("device", "dtype", "says"),
    [
        ("cpu", "float16", "dtype='float16': a CPU trains in"),
        ("tpu", "auto", "device='tpu'"),
        ("cpu", "int8", "dtype='int8'"),
    ],
)
def test_a_place_or_type_that_cannot_train_is_refused(device: str, dtype: str, says: str) -> None:
    config = LoopConfig(epochs=1, batch_size=2, learning_rate=1e-3, device=device, dtype=dtype)
    with pytest.raises(ValueError, match=says):
        placement(config)


def test_a_numbered_gpu_is_refused_with_the_way_to_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.loop.loop.choose_device", torch.device)
    config = LoopConfig(epochs=1, batch_size=2, learning_rate=1e-3, device="cuda:1")
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES=1"):
        placement(config)


@pytest.mark.parametrize("name", ["cpu_ram_efficient_loading", "fsdp_cpu_ram_efficient_loading"])
def test_an_fsdp_file_by_which_tied_weights_come_apart_is_refused(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "fsdp.json").write_text(json.dumps({name: True}))
    with pytest.raises(UserError, match=r"cpu_ram_efficient_loading=true: .* leave it out"):
        fsdp_config(tmp_path / "fsdp.json", torch.nn.Linear(2, 2))
    (tmp_path / "fsdp.json").write_text(json.dumps({name: False}))
    assert fsdp_config(tmp_path / "fsdp.json", torch.nn.Linear(2, 2))
