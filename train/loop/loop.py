"""The one training loop: transformers' Trainer with our order of data, resume and reports.

Every command hands it a module whose forward returns {"loss": ...}. Order and augmentation depend
on (seed, epoch, index) alone, so that a run killed at any moment and resumed from its last
complete checkpoint sees exactly the data that it would have seen.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from omni.devices import choose_device, choose_dtype
from omni.files import UserError, need
from train.loop.clock import TrainingClock
from train.loop.freeze import Freeze
from train.loop.order import BucketSampler, Dealt
from train.loop.processes import PATIENCE, from_first, launched, process_count, share
from train.loop.progress import ProgressTable
from train.loop.sharding import check_parts, deepspeed_config, fsdp_config
from train.loop.trainer import EpochOfSampler, FrozenStaysFrozen, OmniTrainer, Weights


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What every training command lets its user choose."""

    epochs: float
    batch_size: int  # of one process
    learning_rate: float  # peak; cosine decay after the warm-up
    warmup: float = 0.03  # share of all steps
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 1
    save_steps: int = 200
    eval_steps: int = 200
    accumulate: int = 1  # batches per optimiser step
    bf16: bool = False  # with dtype "auto": multiply in bfloat16 where the hardware is fast in it
    workers: int = 0  # processes that prepare batches beside the training one, at most one a core
    max_steps: int = -1  # stop early; -1 runs all epochs
    deepspeed: str | None = None  # path of a DeepSpeed JSON
    fsdp: str | None = None  # path of a JSON with torch's fully_shard options
    device: str = "auto"  # as omni/devices.py chooses it
    dtype: str = "auto"  # that matrices are multiplied in; weights train in float32


def train(
    module: nn.Module,
    *,
    config: LoopConfig,
    output: Path,
    dataset: Dataset[Any],
    lengths: Sequence[int],
    collate: Callable[[list[Any]], Any],  # a mapping of tensors
    count: Callable[[Mapping[str, Tensor]], int],
    validation: Dataset[Any] | None = None,
    metrics: Callable[[Any], dict[str, float]] | None = None,
    freeze: Freeze | None = None,
    save: Callable[[Path, Weights], None] | None = None,
    finish: Callable[[Weights], None] | None = None,
) -> dict[str, float]:
    """Train, resuming from the last complete checkpoint below `output` if there is one.

    module: forward(**batch, num_items_in_batch) returns a dict with "loss" (and what `metrics`
    reads): a sum over the batch, divided by num_items_in_batch, or its own number where that is
    None. count: the number of a batch; its sum over all processes is num_items_in_batch.
    dataset: `dataset[Item]` gives one example; validation: `validation[int]`.
    lengths: cost of each example, for bucketing. save: writes a stage's own files beside each
    checkpoint, finish: writes the result, both from all weights of the module and in one process.
    Returns the last validation's metrics.
    """
    set_seed(config.seed)
    if freeze is not None:
        freeze.apply(module)
    here = share()
    order = BucketSampler(
        lengths, config.batch_size * config.accumulate * here.size, seed=config.seed
    )
    batches = Dealt(order, config.batch_size, here)
    if not len(batches):
        raise UserError(
            f"{len(order)} examples for {here.size} processes: give each at least one; start fewer "
            "processes"
        )
    clock = TrainingClock(module)
    callbacks: list[TrainerCallback] = [EpochOfSampler(order), clock, ProgressTable(clock)]
    if freeze is not None:
        callbacks.append(FrozenStaysFrozen(freeze, module))
    trainer = OmniTrainer(
        batches=batches,
        count=count,
        freeze=freeze,
        save=save,
        model=module,
        args=_arguments(module, config, output, validates=validation is not None),
        train_dataset=dataset,
        eval_dataset=validation,
        data_collator=collate,
        compute_metrics=metrics,
        callbacks=callbacks,
    )
    if config.fsdp is not None and not trainer.is_fsdp_enabled:
        raise UserError(
            f"fsdp={config.fsdp!r}: accelerate shards on GPUs, in processes that torchrun starts; "
            "start it so, or leave the option out"
        )
    for raw in (PrinterCallback, ProgressCallback):  # our own table instead
        trainer.remove_callback(raw)
    if here.rank:  # dropout of its own; the first process draws what a single one would
        torch.manual_seed(config.seed + here.rank)
    checkpoint = from_first(lambda: last_complete_checkpoint(output))
    if config.deepspeed is not None:
        check_parts(checkpoint, here.size)
    trainer.train(resume_from_checkpoint=checkpoint)
    result = trainer.validated() if validation is not None else {}
    weights = trainer.gathered()
    if finish is not None and here.first:
        with trainer.by_itself():
            finish(weights)
    here.wait()
    unset_hf_deepspeed_config()  # the next model of this process is whole
    return result


def _arguments(
    module: nn.Module, config: LoopConfig, output: Path, *, validates: bool
) -> TrainingArguments:
    device, dtype = placement(config)
    sharding: dict[str, Any] = {}
    if config.deepspeed is not None:
        sharding["deepspeed"] = deepspeed_config(config.deepspeed, module)
    if config.fsdp is not None:
        sharding |= {"fsdp": True, "fsdp_config": fsdp_config(config.fsdp, module)}
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
        # More than there are cores only wait for each other.
        dataloader_num_workers=min(config.workers, os.cpu_count() or 1),
        dataloader_persistent_workers=False,
        dataloader_pin_memory=device.type == "cuda",
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=2,
        eval_strategy="steps" if validates else "no",
        eval_steps=config.eval_steps,
        logging_steps=20,
        report_to="tensorboard",
        remove_unused_columns=False,
        label_names=["labels"],
        use_cpu=device.type == "cpu",
        # Only under a launcher: accelerate takes a named backend for a group that is there.
        ddp_backend="gloo" if process_count() > 1 and device.type == "cpu" else None,
        ddp_find_unused_parameters=False,
        ddp_timeout=int(PATIENCE.total_seconds()),
        **sharding,
    )
    if device.type == "cuda":
        arguments._n_gpu = 1  # pyright: ignore[reportPrivateUsage]  # several GPUs are for several processes
    return arguments


def check_installed(config: LoopConfig) -> None:
    """Raise UserError for what `train` will want and miss, before what leads up to it is done."""
    need("tensorboard", "train", "training (its curves)")
    if config.deepspeed is not None:
        need("deepspeed", "deepspeed", "--deepspeed")
        if not launched():
            raise UserError(
                f"deepspeed={config.deepspeed!r}: works in processes that torchrun starts, also "
                "where it is one; start it so, or leave the option out"
            )


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
    # One answer for all processes: where none is known, it is a measured one.
    dtype = from_first(lambda: choose_dtype(config.dtype, device))
    if dtype == torch.float16 and device.type == "cpu":
        raise UserError("dtype='float16': a CPU trains in float32 or bfloat16; choose one, or auto")
    return device, dtype


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
