"""Who does a job's batches: whatever happens to the workers, what they have done comes back."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from data_tools.speech.clips import make_once
from data_tools.steps.workers import LocalExecutor, executor_of
from omni.files.errors import UserError

BATCHES = [[1, 2], [3], [4, 5, 6], [7]]


@dataclass
class Work:
    """Does `task` to each number, and writes down when it is opened and closed."""

    task: Callable[[int], int]
    log: Path

    def __post_init__(self) -> None:
        self.note("opened")

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        return [self.task(number) for number in numbers]

    def close(self) -> None:
        self.note("closed")

    def note(self, event: str) -> None:
        with self.log.open("a") as lines:
            lines.write(f"{event} {os.getpid()}\n")


@dataclass(frozen=True)
class Job:
    task: Callable[[int], int]
    workers: int | None = None
    device: str = "cpu"

    def open(self, root: Path) -> Work:
        return Work(self.task, root / "log")


def square(number: int) -> int:
    time.sleep(0.05)  # so that no worker does all
    return number * number


def done(root: Path, task: Callable[[int], int], workers: int) -> dict[int, list[int]]:
    with closing(LocalExecutor().run(Job(task), BATCHES, root=root, workers=workers)) as running:
        return {place: list(results) for place, results in running}


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_batch_comes_back_in_its_place_and_each_worker_is_opened_and_closed_once(
    tmp_path, workers
):
    squares = [[number * number for number in batch] for batch in BATCHES]
    assert done(tmp_path, square, workers) == dict(enumerate(squares))
    events = (tmp_path / "log").read_text().splitlines()
    processes = {event.split()[1] for event in events}
    assert len(processes) == min(workers, len(BATCHES))
    assert (str(os.getpid()) in processes) == (workers == 1)
    for process in processes:
        own = [event for event in events if event.endswith(f" {process}")]
        assert own == [f"opened {process}", f"closed {process}"]


def test_after_an_error_what_others_have_begun_comes_back_and_nothing_else_is_begun(tmp_path):
    def task(number: int) -> int:
        if number == 1:
            raise UserError("one is refused")
        time.sleep(0.5)
        return number

    found = {}
    with pytest.raises(UserError, match="one is refused") as caught:
        for place, results in LocalExecutor().run(Job(task), BATCHES * 5, root=tmp_path, workers=2):
            found[place] = results
    assert str(caught.value) == "one is refused"
    assert found[1] == [3]
    assert len(found) < 6
    assert "in task" in caught.value.__notes__[0]  # where it happened, for whoever debugs


def test_a_killed_worker_ends_the_run_and_is_told_of(tmp_path):
    def task(number: int) -> int:
        if number == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(UserError, match=r"worker .* run it again"):
        done(tmp_path, task, 2)


def test_a_file_that_several_workers_want_is_made_once(tmp_path):
    path = tmp_path / "clips/one.wav"
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        list(pool.map(wanted, [path] * 12))
    assert [file.name for file in path.parent.iterdir()] == ["one.wav"]
    assert (tmp_path / "made").read_text() == "made\n"


def wanted(path: Path) -> None:
    def make() -> np.ndarray:
        time.sleep(0.1)
        with (path.parents[1] / "made").open("a") as lines:
            lines.write("made\n")
        return np.zeros(160, np.float32)

    make_once(path, make)


def test_a_file_that_can_not_be_made_leaves_nothing_behind(tmp_path):
    def refuse() -> np.ndarray:
        raise ValueError("nothing to say")

    with pytest.raises(ValueError, match="nothing to say"):
        make_once(tmp_path / "clips/one.wav", refuse)
    assert list((tmp_path / "clips").iterdir()) == []


def test_an_unknown_engine_and_an_address_without_a_cluster_are_refused():
    with pytest.raises(UserError, match="executor 'spark': must be one of local, ray"):
        executor_of("spark")
    with pytest.raises(UserError, match="needs --executor ray"):
        executor_of("local", "auto")
