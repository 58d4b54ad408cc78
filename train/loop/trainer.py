"""transformers' Trainer with our order of data and our losses, whichever way its weights lie.

Under DeepSpeed and FSDP each process holds a part of the weights: they are gathered when a
checkpoint is written, and written by one process.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.deepspeed import (
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)
from transformers.trainer_utils import seed_worker

from train.loop.freeze import Freeze
from train.loop.order import BucketSampler, Dealt

Weights = Mapping[str, Tensor]
Module = TypeVar("Module", bound=nn.Module)


class EpochOfSampler(TrainerCallback):
    """Trainer reaches a sampler through some wrappers and not through others; we always do."""

    def __init__(self, sampler: BucketSampler) -> None:
        self._sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tells the sampler which pass begins, also in a run that resumes within one."""
        self._sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))


class FrozenStaysFrozen(TrainerCallback):
    """Checks before the optimiser's step that nothing outside the recipe has a gradient."""

    def __init__(self, freeze: Freeze, module: nn.Module) -> None:
        self._freeze, self._module = freeze, module

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Raises RuntimeError (`Freeze.check_gradients`) for a gradient that must not be."""
        self._freeze.check_gradients(self._module)


class OmniTrainer(Trainer):
    """Trainer that takes batches as they are dealt, and writes what trains.

    count: what a batch's loss is a mean over. freeze: what trains; None trains everything. save:
    writes a stage's own files beside each checkpoint, from all weights of the module.
    """

    def __init__(
        self,
        *,
        batches: Dealt,
        count: Callable[[Mapping[str, Tensor]], int],
        freeze: Freeze | None,
        save: Callable[[Path, Weights], None] | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_accepts_loss_kwargs = True  # every module of ours takes num_items_in_batch
        self._batches = batches
        self._count = count
        self._freeze = freeze
        self._save_stage = save
        self._validated: tuple[int, dict[str, float]] | None = None  # the last, after which step

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This process's batches as `Dealt` deals them."""
        # Not through accelerate: it would deal the batches out a second time.
        return DataLoader(
            self.train_dataset,  # pyright: ignore[reportArgumentType]  # ours, one of torch's
            batch_sampler=self._batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            worker_init_fn=partial(
                seed_worker,
                num_workers=self.args.dataloader_num_workers,
                rank=self.args.process_index,
            ),
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the base's, whose result is kept."""
        result = super().evaluate(*args, **kwargs)
        self._validated = self.state.global_step, result
        return result

    def validated(self) -> dict[str, float]:
        """The validation of the weights as they are; a training ends with it, and is not asked
        twice. Every process must ask."""
        if self._validated is None or self._validated[0] != self.state.global_step:
            return self.evaluate()
        return self._validated[1]

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """What the loss is a mean over, in all processes and accumulated batches of a step."""
        if not batch_samples:
            return None
        number = torch.tensor(sum(map(self._count, batch_samples)), device=device)
        gathered: Any = self.accelerator.gather(number)  # of one tensor: a tensor
        return gathered.sum()

    @property
    def _module(self) -> nn.Module:
        assert self.model is not None  # the base allows for one that is made later
        return self.model

    def gathered(self) -> Weights:
        """All weights by their names in the module; complete in the process that writes.

        Every process must ask.
        """
        wrapped = self.deepspeed if self.is_deepspeed_enabled else self.model
        # None where DeepSpeed has nothing for this process.
        state: Any = self.accelerator.get_state_dict(wrapped)
        return _tied(self._module, state or {})

    @contextmanager
    def by_itself(self) -> Generator[None]:
        """One process writes: models that it makes for that are its own.

        Under ZeRO-3 transformers would split them among all processes, and wait for these.
        """
        config = getattr(self.args, "hf_deepspeed_config", None)
        unset_hf_deepspeed_config()
        try:
            yield
        finally:
            if config is not None:
                set_hf_deepspeed_config(config)

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        if not self.args.should_save:
            return
        module = self._module
        whole = module.state_dict() if state_dict is None else _tied(module, state_dict)
        state = whole
        if self._freeze is not None:  # what stands still is read from where it came from
            state = {name: value for name, value in whole.items() if self._freeze.trains(name)}
        super()._save(output_dir, _without_ties(state))
        if self._save_stage is not None and output_dir is not None:
            with self.by_itself():
                self._save_stage(Path(output_dir), whole)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # trainer_state.json comes next and says that a checkpoint is complete: everyone's part is.
        self.accelerator.wait_for_everyone()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Frozen and tied weights are missing on purpose; anything surplus is not ours."""
        if load_result.unexpected_keys:
            raise ValueError(
                f"{self.args.output_dir}: its checkpoint holds {load_result.unexpected_keys[0]}, "
                "which this model does not have; it belongs to another recipe: give another output"
            )


def part_of(weights: Weights, name: str) -> dict[str, Tensor]:
    """The weights of one submodule, by their names in it."""
    prefix = f"{name}."
    return {key[len(prefix) :]: w for key, w in weights.items() if key.startswith(prefix)}


def filled(module: Module, weights: Weights, name: str) -> Module:
    """A new module with the gathered weights of the submodule `name`.

    The one that trained may hold but a part of them.
    """
    module.load_state_dict(part_of(weights, name))
    return module


def _tied(module: nn.Module, weights: Weights) -> Weights:
    """With one tensor where the module has one: gathering makes a copy of each name's."""
    names: dict[int, str] = {}
    tied = dict(weights)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if name in tied and first in tied:
            tied[name] = tied[first]
    return tied


def _without_ties(state: Weights) -> dict[str, Tensor]:
    """Each storage once: safetensors refuses tied weights, and loading ties them again."""
    seen: dict[tuple[Any, ...], str] = {}
    for name, value in state.items():
        seen.setdefault((value.data_ptr(), value.shape, value.stride()), name)
    return {name: state[name] for name in seen.values()}
