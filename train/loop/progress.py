"""What training tells while it runs: one table, with a row now and then and for each validation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from train.loop.clock import SAVING, STEP, VALIDATION, TrainingClock

COLUMNS = ("step", "of", "loss", "learning rate", "s/step", "time left", "validation")
WIDTHS = (8, 8, 10, 14, 9, 10, 0)


def to_terminal(line: str) -> None:
    """The line at once, also into a file that somebody follows."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class ProgressTable(TrainerCallback):
    """The rows of the table, instead of the dictionaries that the Trainer prints.

    The first row of losses is followed by where the time of its steps went, and the last by where
    all of it did. clock: another callback, which comes before this one. show: takes each line.
    """

    def __init__(self, clock: TrainingClock, show: Callable[[str], None] = to_terminal) -> None:
        self._clock, self._show = clock, show
        self._told = (0.0, 0)  # seconds and number of steps at the last row

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Shows the heading, and from where an earlier run goes on."""
        if state.is_world_process_zero and state.global_step < state.max_steps:
            if state.global_step:
                self._show(f"goes on after step {state.global_step}")
            self._row(*COLUMNS)

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
            now = seconds_of_steps(self._clock.seconds), self._clock.steps
            before, self._told = self._told, now
            per_step = (now[0] - before[0]) / max(now[1] - before[1], 1)
            left = per_step * (state.max_steps - state.global_step)
            rate = f"{logs.get('learning_rate', 0.0):.2e}"
            self._row(step, of, f"{logs['loss']:.4f}", rate, f"{per_step:.3g}", duration(left))
            if not before[1]:
                self._show(f"a step's time: {shares(self._clock.seconds)}")
        elif found := measured(logs):
            self._row(step, of, "", "", "", "", numbers(found))
        elif "train_loss" in logs and self._clock.steps:
            spent = self._clock.seconds
            beside = [f"{what} {duration(spent.get(what, 0.0))}" for what in (VALIDATION, SAVING)]
            self._show(
                f"{self._clock.steps} steps in {duration(seconds_of_steps(spent))} "
                f"({shares(spent)}), {', '.join(beside)}; mean loss {logs['train_loss']:.4f}"
            )

    def _row(self, *cells: str) -> None:
        row = [cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=False)]
        self._show("  ".join(row).rstrip())


def seconds_of_steps(seconds: Mapping[str, float]) -> float:
    """Of all that a clock has counted, what the steps themselves took."""
    return sum(seconds.get(what, 0.0) for what in STEP)


def shares(seconds: Mapping[str, float]) -> str:
    """ "data 2 %, forward 35 %, ...": how the time of steps divides."""
    whole = seconds_of_steps(seconds) or 1.0
    return ", ".join(
        f"{what} {100 * seconds[what] / whole:.0f} %" for what in STEP if what in seconds
    )


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
