"""Two processes end where one does: every stage under torchrun, on CPUs, and stage 1 killed there.

DeepSpeed, an environment of its own, has the same tests in .ci/test_deepspeed.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from launched import ROOT, TABLE, alone, assert_same, killed_then_all, product
from many_processes import STAGES, run

TRAINED = [name for name in STAGES if name != "units"]
SHARDED = ["lm", "vocoder", "stage1"]  # a tied LLM, a module without layers to name, all together


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return alone(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    """What the two processes printed that made `two`."""
    return killed_then_all(folder, "two", list(STAGES))


@pytest.fixture(scope="module")
def sharded(folder: Path) -> str:
    options = str(ROOT / "examples" / "fsdp" / "full_shard.json")
    return killed_then_all(folder, "fsdp", SHARDED, fsdp=options)


@pytest.mark.usefixtures("printed")
@pytest.mark.parametrize("stage", TRAINED)
def test_two_processes_end_with_the_weights_of_one(folder: Path, stage: str) -> None:
    assert_same(folder, "two", stage)


@pytest.mark.usefixtures("sharded")
@pytest.mark.parametrize("stage", SHARDED)
def test_weights_that_fsdp_splits_end_as_those_of_one_process(folder: Path, stage: str) -> None:
    assert_same(folder, "fsdp", stage)


def test_training_has_moved_the_weights_that_are_compared(folder: Path) -> None:
    before, after = (product(folder / name) for name in ("data", "one/stage1"))
    moved = [name for name in before if (after[name] - before[name]).abs().max() > 1e-3]
    assert {name.split(".")[0] for name in moved} == {"language_model", "speech_adapter"}


def test_one_process_goes_on_where_two_were_killed(folder: Path, printed: str) -> None:
    run(folder / "data", folder / "two-dead", ["stage1"])
    assert_same(folder, "two-dead", "stage1")


def test_a_killed_run_went_on_and_did_not_begin_anew(printed: str, sharded: str) -> None:
    for told in (printed, sharded):
        assert "goes on after step 3" in told


def test_one_process_writes_each_table_and_each_answer_once(folder: Path, printed: str) -> None:
    assert len(TABLE.findall(printed)) == len(TRAINED)
    for stage in STAGES:
        run_file = json.loads((folder / "two" / stage / "run.json").read_text())
        assert "result" in run_file
    one, two = (len([*(folder / name).glob("*/runs/*/events*")]) for name in ("one", "two"))
    assert two == one + 1  # that of the run which was killed


@pytest.mark.usefixtures("printed")
def test_caches_and_units_are_those_of_one_process(folder: Path) -> None:
    for name in ("stage1/frames", "stage2/frames", "stage2/states"):
        one, two = folder / "one" / name, folder / "two" / name
        assert (two / "index.jsonl").read_text() == (one / "index.jsonl").read_text()
        values = [np.fromfile(path / "values.bin", np.float16) for path in (one, two)]
        assert np.allclose(*values, atol=1e-2)
    for name in ("frame_units.jsonl", "records.jsonl"):
        one, two = folder / "one" / "units" / name, folder / "two" / "units" / name
        assert two.read_text() == one.read_text()
    assert not [*(folder / "two").rglob("*part*")]
