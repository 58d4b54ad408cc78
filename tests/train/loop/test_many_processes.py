"""Two processes end where one does: every stage under torchrun, on CPUs, and stage 1 killed there.

Each test launches twice and looks at all that comes of it: launches are what takes time.
DeepSpeed, an environment of its own, has the same tests in .ci/test_deepspeed.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.launched import ROOT, TABLE, alone, assert_same, killed_then_all, product
from tests.many_processes import STAGES, run

pytestmark = pytest.mark.timeout(600)  # processes beside other tests, on as few cores

TRAINED = [name for name in STAGES if name != "units"]
SHARDED = ["lm", "vocoder", "stage1", "taught"]  # a tied LLM, no layers to name, all, LoRA


def test_two_processes_end_where_one_does_although_they_were_killed(tmp_path: Path) -> None:
    folder = alone(tmp_path, list(STAGES))
    assert_moved(folder)
    printed = killed_then_all(folder, "two", list(STAGES))
    for stage in TRAINED:
        assert_same(folder, "two", stage)
    assert_same_caches(folder, "two")
    assert_written_once(folder, "two", printed)
    # One process goes on where two were killed.
    run(folder / "data", folder / "two-dead", ["stage1"])
    assert_same(folder, "two-dead", "stage1")


def test_weights_that_fsdp_splits_end_as_those_of_one_process(tmp_path: Path) -> None:
    folder = alone(tmp_path, SHARDED)
    options = str(ROOT / "examples" / "fsdp" / "full_shard.json")
    printed = killed_then_all(folder, "fsdp", SHARDED, fsdp=options)
    for stage in SHARDED:
        assert_same(folder, "fsdp", stage)
    assert "goes on after step 3" in printed
    assert len(TABLE.findall(printed)) == len(SHARDED)


def assert_moved(folder: Path) -> None:
    """Training changes weights by much more than two runs of it may differ."""
    before, after = (product(folder / name) for name in ("data", "one/stage1"))
    moved = [name for name in before if (after[name] - before[name]).abs().max() > 1e-3]
    assert {name.split(".")[0] for name in moved} == {"language_model", "speech_adapter"}


def assert_written_once(folder: Path, name: str, printed: str) -> None:
    assert "goes on after step 3" in printed  # and did not begin anew
    assert len(TABLE.findall(printed)) == len(TRAINED)
    for stage in STAGES:
        assert "result" in json.loads((folder / name / stage / "run.json").read_text())
    one, two = (len([*(folder / of).glob("*/runs/*/events*")]) for of in ("one", name))
    assert two == one + 1  # that of the run which was killed


def assert_same_caches(folder: Path, name: str) -> None:
    for cache in ("stage1/frames", "stage2/frames", "stage2/states"):
        one, two = folder / "one" / cache, folder / name / cache
        assert (two / "index.jsonl").read_text() == (one / "index.jsonl").read_text()
        values = [np.fromfile(path / "values.bin", np.float16) for path in (one, two)]
        assert np.allclose(*values, atol=1e-2)
    for file in ("frame_units.jsonl", "records.jsonl"):
        one, two = (folder / of / "units" / file for of in ("one", name))
        assert two.read_text() == one.read_text()
    assert not [*(folder / name).rglob("*part*")]
