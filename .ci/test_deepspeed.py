"""Two processes under DeepSpeed end where one does, and leave what loads without it.

Run by `make test-deepspeed`, apart from the other tests: DeepSpeed has an environment of its own.
On CPUs, over gloo; its kernels for GPUs are not touched.
"""

from pathlib import Path

import pytest
from launched import ROOT, TABLE, alone, assert_same, killed_then_all
from many_processes import STAGES

pytestmark = pytest.mark.timeout(600)  # a first test waits for two launches

TRAINED = [name for name in STAGES if name != "units"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return alone(tmp_path_factory.mktemp("deepspeed"))


@pytest.fixture(scope="module", params=["zero2", "zero3"])
def ended(folder: Path, request: pytest.FixtureRequest) -> tuple[Path, str, str]:
    """Where all stages have ended under this configuration, its name, and what was printed."""
    options = str(ROOT / "examples" / "deepspeed" / f"{request.param}.json")
    return folder, request.param, killed_then_all(folder, request.param, TRAINED, deepspeed=options)


@pytest.mark.parametrize("stage", TRAINED)
def test_weights_that_deepspeed_splits_end_as_those_of_one_process(
    ended: tuple[Path, str, str], stage: str
) -> None:
    folder, name, _ = ended
    assert_same(folder, name, stage)


def test_a_killed_run_goes_on_and_each_table_is_printed_once(
    ended: tuple[Path, str, str],
) -> None:
    *_, printed = ended
    assert "goes on after step 3" in printed
    assert len(TABLE.findall(printed)) == len(TRAINED)
