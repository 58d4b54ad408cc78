"""What training prints: our own table, and none of the Trainer's dictionaries."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.train.loop.test_train_loop import Line, Model
from train.loop.clock import TrainingClock
from train.loop.loop import LoopConfig, train
from train.loop.progress import ProgressTable, duration


def fifty_steps(output: Path, **kwargs: Any) -> dict[str, float]:
    """A training that validates after half of its steps."""
    return train(
        Model(),
        config=LoopConfig(epochs=10, batch_size=2, learning_rate=1e-2, eval_steps=25),
        output=output,
        dataset=Line(),
        lengths=[1] * 10,
        collate=lambda rows: {"labels": torch.stack(rows)},
        count=lambda batch: len(batch["labels"]),
        validation=Line(),
        **kwargs,
    )


def test_the_end_is_validated_once(tmp_path: Path) -> None:
    validations = []

    def metrics(prediction: object) -> dict[str, float]:
        validations.append(prediction)
        return {"told": float(len(validations))}

    result = fifty_steps(tmp_path, metrics=metrics)
    assert len(validations) == 2  # after 25 steps of 50, and after all
    assert result["eval_told"] == 2


def test_training_prints_a_table_with_its_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifty_steps(tmp_path)
    shown = capsys.readouterr()
    assert "{" not in shown.out and "it/s" not in shown.err
    header, *rows = shown.out.splitlines()
    assert header.split()[:3] == ["step", "of", "loss"] and "learning rate" in header
    cells = [row.split() for row in rows]
    told = [row[:2] for row in cells if row[1:2] == ["50"]]
    assert told == [["20", "50"], ["25", "50"], ["40", "50"], ["50", "50"]]
    assert float(cells[0][2]) > 0 and float(cells[0][3]) < 1e-2
    assert rows[1].startswith("a step's time: data ") and "forward" in rows[1]
    assert "loss" in cells[2] and "runtime" not in shown.out
    assert rows[-1].startswith("50 steps in ")


class Hours:
    """A training whose clock is set by hand."""

    def __init__(self, device: str = "cpu") -> None:
        self.now, self.shown = 0.0, list[str]()
        self.args = SimpleNamespace(device=torch.device(device))
        self.state = SimpleNamespace(is_world_process_zero=True, max_steps=100, global_step=0)
        self.module = Slow(self)
        self.clock = TrainingClock(self.module, lambda: self.now)
        self.table = ProgressTable(self.clock, self.shown.append)
        for told in (self.clock, self.table):
            told.on_train_begin(self.args, self.state, None)

    def step(self, batches: int = 1) -> None:
        """0.5 s for data, 2 s forward and 1 s backward for each batch, 0.5 s for the rest."""
        self.now += 0.5
        self.clock.on_step_begin(self.args, self.state, None)
        for batch in range(1, batches + 1):
            self.module(torch.zeros(1))
            self.now += 1
            if batch < batches:
                self.clock.on_substep_end(self.args, self.state, None)
        self.clock.on_pre_optimizer_step(self.args, self.state, None)
        self.now += 0.5
        self.state.global_step += 1
        self.clock.on_step_end(self.args, self.state, None)

    def log(self, **logs: float) -> None:
        self.table.on_log(self.args, self.state, None, logs)


class Slow(torch.nn.Module):
    """Takes two seconds."""

    def __init__(self, hours: Hours) -> None:
        super().__init__()
        self._hours = hours

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._hours.now += 2
        return x


def test_the_time_left_counts_the_steps_and_their_data_and_not_the_validation() -> None:
    hours = Hours()
    for _ in range(20):
        hours.step()
        hours.now += 20
        hours.clock.on_evaluate(hours.args, hours.state, None)
        hours.now += 10
        hours.clock.on_save(hours.args, hours.state, None)
    hours.log(loss=1.5, learning_rate=1e-3)
    row, shares = hours.shown[-2:]
    assert row.split() == ["20", "100", "1.5000", "1.00e-03", "4", "5", "min"]
    assert shares == "a step's time: data 12 %, forward 50 %, backward 25 %, optimiser 12 %"
    hours.log(train_loss=1.25)
    assert hours.shown[-1] == (
        "20 steps in 80 s (data 12 %, forward 50 %, backward 25 %, optimiser 12 %), "
        "validation 7 min, saving 3 min; mean loss 1.2500"
    )


def test_each_batch_of_a_step_goes_forward_and_backward() -> None:
    hours = Hours()
    hours.step(batches=3)
    assert hours.clock.seconds == {"data": 0.5, "forward": 6, "backward": 3, "optimiser": 0.5}


def test_a_validation_going_forward_is_no_step_going_forward() -> None:
    hours = Hours()
    hours.module.eval()
    hours.module(torch.zeros(1))
    hours.clock.on_evaluate(hours.args, hours.state, None)
    assert hours.clock.seconds == {"validation": 2}


def test_where_a_device_works_on_by_itself_its_passes_are_one_number() -> None:
    hours = Hours("meta")
    hours.step()
    assert hours.clock.seconds == {"data": 0.5, "passes": 3, "optimiser": 0.5}


@pytest.mark.parametrize(
    ("seconds", "told"), [(3.2, "3 s"), (99, "99 s"), (150, "2 min"), (9000, "2.5 h")]
)
def test_durations_are_told_in_two_digits(seconds: float, told: str) -> None:
    assert duration(seconds) == told
