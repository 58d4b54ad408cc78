"""The one training loop: transformers' Trainer with our order of data, resume and reports.

Every command hands it a module whose forward returns {"loss": ...}. Order and augmentation depend
on (seed, epoch, index) alone, so that a run killed at any moment and resumed from its last
complete checkpoint sees exactly the data that it would have seen.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from omni.devices import choose_device, choose_dtype
from omni.errors import UserError
from omni.optional import need
from train.freeze import Freeze
from train.progress import ProgressTable


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What every training command lets its user choose."""

    epochs: float
    batch_size: int
    learning_rate: float  # peak; cosine decay after the warm-up
    warmup: float = 0.03  # share of all steps
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 1
    save_steps: int = 200
    eval_steps: int = 200
    accumulate: int = 1  # batches per optimiser step
    bf16: bool = False  # with dtype "auto": multiply in bfloat16 where the hardware is fast in it
    workers: int = 0  # processes that prepare batches beside the training one
    max_steps: int = -1  # stop early; -1 runs all epochs
    deepspeed: str | None = None  # path of a DeepSpeed JSON
    device: str = "auto"  # as omni/devices.py chooses it
    dtype: str = "auto"  # that matrices are multiplied in; weights train in float32


@dataclass(frozen=True)
class Item:
    """Which example, in which pass: all that augmentation may depend on beside the seed."""

    epoch: int
    index: int


class BucketSampler(Sampler[Item]):
    """Shuffles by (seed, epoch), then sorts windows by length: batches waste little padding."""

    def __init__(
        self, lengths: Sequence[int], batch_size: int, *, seed: int, window: int = 50
    ) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._window = window * batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[Item]:
        rng = np.random.default_rng((self._seed, self._epoch))
        order = rng.permutation(len(self._lengths))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), self._window):
            window = order[start : start + self._window]
            window = window[np.argsort(self._lengths[window], kind="stable")]
            batches += [
                window[i : i + self._batch_size] for i in range(0, len(window), self._batch_size)
            ]
        # A short batch in the middle would shift every border after it: keep it last.
        short = [batch for batch in batches if len(batch) < self._batch_size]
        full = [batch for batch in batches if len(batch) == self._batch_size]
        for number in rng.permutation(len(full)):
            yield from (Item(self._epoch, int(index)) for index in full[number])
        for batch in short:
            yield from (Item(self._epoch, int(index)) for index in batch)


class _EpochOfSampler(TrainerCallback):
    """Trainer reaches a sampler through some wrappers and not through others; we always do."""

    def __init__(self, sampler: BucketSampler) -> None:
        self._sampler = sampler

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))


class _FrozenStaysFrozen(TrainerCallback):
    """Checks before the optimiser's step that nothing outside the recipe has a gradient."""

    def __init__(self, freeze: Freeze, module: nn.Module) -> None:
        self._freeze, self._module = freeze, module

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self._freeze.check_gradients(self._module)


class OmniTrainer(Trainer):
    """Trainer with our sampler, that writes what trains and, where a stage says how, its files."""

    def __init__(
        self,
        *,
        sampler: BucketSampler,
        freeze: Freeze | None,
        save: Callable[[Path], None] | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._sampler = sampler
        self._freeze = freeze
        self._save_stage = save

    def _get_train_sampler(self, train_dataset=None):
        return self._sampler

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        module: nn.Module = self.model  # type: ignore[assignment]
        state = state_dict or module.state_dict()
        if self._freeze is not None:  # what stands still is read from where it came from
            state = {name: value for name, value in state.items() if self._freeze.trains(name)}
        super()._save(output_dir, _without_ties(state))
        if self._save_stage is not None and output_dir is not None:
            self._save_stage(Path(output_dir))

    def _issue_warnings_after_load(self, load_result) -> None:
        """Frozen and tied weights are missing on purpose; anything surplus is not ours."""
        if load_result.unexpected_keys:
            raise ValueError(
                f"{self.args.output_dir}: its checkpoint holds {load_result.unexpected_keys[0]}, "
                "which this model does not have; it belongs to another recipe: give another output"
            )


def _without_ties(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each storage once: safetensors refuses tied weights, and loading ties them again."""
    seen: dict[tuple, str] = {}
    for name, value in state.items():
        seen.setdefault((value.data_ptr(), value.shape, value.stride()), name)
    return {name: state[name] for name in seen.values()}


def train(
    module: nn.Module,
    *,
    config: LoopConfig,
    output: Path,
    dataset: Dataset,
    lengths: Sequence[int],
    collate: Callable[[list[Any]], Any],  # a mapping of tensors
    validation: Dataset | None = None,
    metrics: Callable[[Any], dict[str, float]] | None = None,
    freeze: Freeze | None = None,
    save: Callable[[Path], None] | None = None,
) -> dict[str, float]:
    """Train, resuming from the last complete checkpoint below `output` if there is one.

    module: forward(**batch) returns a dict with "loss" (and what `metrics` reads).
    dataset: `dataset[Item]` gives one example; validation: `validation[int]`.
    lengths: cost of each example, for bucketing. save: writes a stage's own files beside each
    checkpoint. Returns the last validation's metrics.
    """
    set_seed(config.seed)
    if freeze is not None:
        freeze.apply(module)
    sampler = BucketSampler(lengths, config.batch_size, seed=config.seed)
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1  # by torchrun or accelerate
    device, dtype = placement(config)
    arguments = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=config.max_grad_norm,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        seed=config.seed,
        data_seed=config.seed,
        dataloader_num_workers=config.workers,
        dataloader_persistent_workers=False,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=2,
        eval_strategy="steps" if validation is not None else "no",
        eval_steps=config.eval_steps,
        logging_steps=20,
        report_to="tensorboard",
        remove_unused_columns=False,
        label_names=["labels"],
        deepspeed=config.deepspeed,
        use_cpu=device.type == "cpu",
        # Only under a launcher: accelerate takes a named backend for a group that is there.
        ddp_backend="gloo" if launched and device.type == "cpu" else None,
        ddp_find_unused_parameters=False,
    )
    callbacks: list[TrainerCallback] = [_EpochOfSampler(sampler), ProgressTable()]
    if freeze is not None:
        callbacks.append(_FrozenStaysFrozen(freeze, module))
    trainer = OmniTrainer(
        sampler=sampler,
        freeze=freeze,
        save=save,
        model=module,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=validation,
        data_collator=collate,
        compute_metrics=metrics,
        callbacks=callbacks,
    )
    for raw in (PrinterCallback, ProgressCallback):  # our own table instead
        trainer.remove_callback(raw)
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(output))
    return trainer.evaluate() if validation is not None else {}


def check_installed(config: LoopConfig) -> None:
    """Raise UserError for a package that `train` will want, before what leads up to it is done."""
    need("tensorboard", "train", "training (its curves)")
    if config.deepspeed is not None:
        need("deepspeed", "deepspeed", "--deepspeed")


def placement(config: LoopConfig) -> tuple[torch.device, torch.dtype]:
    """Where a loop trains, and the type that its matrices are multiplied in.

    Raises UserError for what is not there, and for a numbered GPU: the Trainer takes the first.
    """
    device = choose_device(config.device)
    if config.device.startswith("cuda:"):
        number = config.device.removeprefix("cuda:")
        raise UserError(
            f"device={config.device!r}: training takes the first GPU that it sees; set "
            f"CUDA_VISIBLE_DEVICES={number} and give --device cuda"
        )
    if config.dtype == "auto" and not config.bf16:
        return device, torch.float32
    dtype = choose_dtype(config.dtype, device)
    if dtype == torch.float16 and device.type == "cpu":
        raise UserError("dtype='float16': a CPU trains in float32 or bfloat16; choose one, or auto")
    return device, dtype


def main_process() -> bool:
    """Whether this is the one process of a distributed run that writes results."""
    return int(os.environ.get("RANK", "0")) == 0


def last_complete_checkpoint(output: Path) -> str | None:
    """The newest checkpoint that was written to its end; half-written ones are removed.

    Trainer writes trainer_state.json last, so a readable one marks a complete folder.
    """
    folders = sorted(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for folder in reversed(folders):
        try:
            json.loads((folder / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(folder)
            continue
        return str(folder)
    return None
