"""What training tells while it runs: one table, with a row now and then and for each validation."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

COLUMNS = ("step", "of", "loss", "learning rate", "s/step", "time left", "validation")
WIDTHS = (8, 8, 10, 14, 9, 10, 0)


def to_terminal(line: str) -> None:
    """The line at once, also into a file that somebody follows."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class ProgressTable(TrainerCallback):
    """The rows of the table, instead of the dictionaries that the Trainer prints.

    show: takes each line. clock: seconds.
    """

    def __init__(
        self,
        show: Callable[[str], None] = to_terminal,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show, self._clock = show, clock
        self._step_began = 0.0
        self._seconds, self._steps = 0.0, 0  # of the steps of this process, validation not counted
        self._last: tuple[int, dict[str, float]] | None = None  # validation that was told
        self._told = (0.0, 0)  # the same at the last row

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Shows the heading, and from where an earlier run goes on."""
        if state.is_world_process_zero and state.global_step < state.max_steps:
            if state.global_step:
                self._show(f"goes on after step {state.global_step}")
            self._row(*COLUMNS)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the step's clock."""
        self._step_began = self._clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Adds the step's time: a validation between two steps is not counted."""
        self._seconds += self._clock() - self._step_began
        self._steps += 1

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Shows a row for a loss, for a validation, or for the end."""
        if not state.is_world_process_zero or not logs:
            return
        step, of = str(state.global_step), str(state.max_steps)
        if "loss" in logs:
            seconds, steps = self._seconds - self._told[0], self._steps - self._told[1]
            self._told = self._seconds, self._steps
            per_step = seconds / steps if steps else 0.0
            left = per_step * (state.max_steps - state.global_step)
            rate = f"{logs.get('learning_rate', 0.0):.2e}"
            self._row(step, of, f"{logs['loss']:.4f}", rate, f"{per_step:.3g}", duration(left))
        elif (found := measured(logs)) and (told := (state.global_step, found)) != self._last:
            self._last = told  # the end is validated twice: in training, and for the result
            self._row(step, of, "", "", "", "", numbers(found))
        elif "train_loss" in logs and self._steps:
            self._show(
                f"{self._steps} steps in {duration(self._seconds)}, "
                f"mean loss {logs['train_loss']:.4f}"
            )

    def _row(self, *cells: str) -> None:
        row = [cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=False)]
        self._show("  ".join(row).rstrip())


def measured(result: Mapping[str, float]) -> dict[str, float]:
    """What a validation measured, of all that the Trainer reports about it."""
    return {
        name.removeprefix("eval_"): value
        for name, value in result.items()
        if name.startswith("eval_") and not name.endswith(("runtime", "_per_second"))
    }


def numbers(values: Mapping[str, float]) -> str:
    """ "loss 1.234, exact 0.500": values by name, with three decimals."""
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def duration(seconds: float) -> str:
    """Two digits' worth: "35 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
