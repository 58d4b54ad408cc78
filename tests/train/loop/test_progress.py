"""What training prints: our own table, and none of the Trainer's dictionaries."""

from pathlib import Path

import pytest
import torch

from tests.train.loop.test_train_loop import Line, Model
from train.loop.loop import LoopConfig, train
from train.loop.progress import ProgressTable, duration


def test_training_prints_a_table_with_its_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        Model(),
        config=LoopConfig(epochs=10, batch_size=2, learning_rate=1e-2, eval_steps=25),
        output=tmp_path,
        dataset=Line(),
        lengths=[1] * 10,
        collate=lambda rows: {"labels": torch.stack(rows)},
        count=lambda batch: len(batch["labels"]),
        validation=Line(),
    )
    shown = capsys.readouterr()
    assert "{" not in shown.out and "it/s" not in shown.err
    header, *rows = shown.out.splitlines()
    assert header.split()[:3] == ["step", "of", "loss"] and "learning rate" in header
    cells = [row.split() for row in rows]
    assert [row[:2] for row in cells[:3]] == [["20", "50"], ["25", "50"], ["40", "50"]]
    assert float(cells[0][2]) > 0 and float(cells[0][3]) < 1e-2
    assert "loss" in cells[1] and "runtime" not in shown.out
    assert rows[-2].startswith("50 steps in ") or rows[-1].startswith("50 steps in ")


def test_the_time_left_counts_the_steps_and_not_the_validation() -> None:
    class State:
        is_world_process_zero, max_steps, global_step = True, 100, 0

    now, shown, state = [0.0], [], State()
    table = ProgressTable(shown.append, clock=lambda: now[0])
    table.on_train_begin(None, state, None)
    for step in range(1, 21):
        table.on_step_begin(None, state, None)
        now[0] += 2
        table.on_step_end(None, state, None)
        state.global_step = step
        now[0] += 30  # validation, saving
    table.on_log(None, state, None, {"loss": 1.5, "learning_rate": 1e-3})
    assert shown[-1].split() == ["20", "100", "1.5000", "1.00e-03", "2", "3", "min"]


@pytest.mark.parametrize(
    ("seconds", "told"), [(3.2, "3 s"), (99, "99 s"), (150, "2 min"), (9000, "2.5 h")]
)
def test_durations_are_told_in_two_digits(seconds: float, told: str) -> None:
    assert duration(seconds) == told
