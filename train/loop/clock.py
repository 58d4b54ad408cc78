"""Where the time of a training goes: to batches, to its passes, to validation, to files."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

DATA, FORWARD, BACKWARD, OPTIMISER = "data", "forward", "backward", "optimiser"
PASSES = "passes"  # forward and backward, where the two can't be told apart
VALIDATION, SAVING = "validation", "saving"
STEP = (DATA, FORWARD, BACKWARD, PASSES, OPTIMISER)  # what a step consists of


class TrainingClock(TrainerCallback):
    """Seconds of this process by what it was doing, from the Trainer's own events.

    Each event ends what went on since the one before: a step begins when its batches are there, a
    validation and a checkpoint are told of when they are over. On a CPU the module's forward is
    timed apart; a GPU works on after the call has returned, so there both passes are one number.
    now: a clock in seconds.
    """

    def __init__(self, module: nn.Module, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self._module, self._now = module, now
        self._since = now()
        self._hooks: list[RemovableHandle] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the clock."""
        self._since = self._now()
        if args.device.type == "cpu":
            self._hooks = [
                self._module.register_forward_pre_hook(self._forward_begins),
                self._module.register_forward_hook(self._forward_ends),
            ]

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The step's batches have been waited for."""
        self._spent(DATA)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """One of a step's batches has given its gradients."""
        self._passed()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The last one has."""
        self._passed()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The weights have moved."""
        self._spent(OPTIMISER)
        self.steps += 1

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A validation is over."""
        self._spent(VALIDATION)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A checkpoint is written."""
        self._spent(SAVING)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves the module as it was."""
        for hook in self._hooks:
            hook.remove()

    def _forward_begins(self, module: nn.Module, inputs: Any) -> None:
        if module.training:
            self._spent(DATA)  # the batch has been brought to the module

    def _forward_ends(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if module.training:
            self._spent(FORWARD)

    def _passed(self) -> None:
        self._spent(BACKWARD if FORWARD in self.seconds else PASSES)

    def _spent(self, what: str) -> None:
        now = self._now()
        self.seconds[what] = self.seconds.get(what, 0.0) + now - self._since
        self._since = now
