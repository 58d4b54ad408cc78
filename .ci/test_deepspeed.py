"""Two processes under DeepSpeed end where one does, and leave what loads without it.

Run by `make test-deepspeed`, apart from the other tests: DeepSpeed has an environment of its own.
On CPUs, over gloo; its kernels for GPUs are not touched.
"""

from pathlib import Path

import pytest

from omni.files.errors import UserError
from tests.launched import ROOT, TABLE, alone, assert_same, killed_then_all, product, together
from tests.many_processes import STAGES, run

pytestmark = pytest.mark.timeout(600)  # a first test waits for two launches

TRAINED = [name for name in STAGES if name not in ("units", "adversarial")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return alone(tmp_path_factory.mktemp("deepspeed"), TRAINED)


@pytest.fixture(scope="module", params=["zero2", "zero3"])
def ended(folder: Path, request: pytest.FixtureRequest) -> tuple[Path, str, str]:
    """Where all stages have ended under this configuration, its name, and what was printed."""
    name = request.param
    return folder, name, killed_then_all(folder, name, TRAINED, deepspeed=example(name))


def example(name: str) -> str:
    return str(ROOT / "examples" / "deepspeed" / f"{name}.json")


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


def test_in_bfloat16_every_stage_ends_with_what_loads(
    ended: tuple[Path, str, str],
) -> None:
    folder, name, _ = ended
    options = {"deepspeed": example(name), "dtype": "bfloat16"}
    stages = [stage for stage in TRAINED if stage != "vocoder"]
    code, printed = together(folder, f"{name}-bfloat16", stages, **options)
    assert code == 0, printed
    for stage in stages:
        exact, rounded = (product(folder / of / stage) for of in ("one", f"{name}-bfloat16"))
        assert exact.keys() == rounded.keys()
        assert all((rounded[key] - exact[key]).abs().max() < 1e-2 for key in exact)


def test_another_number_of_processes_is_refused_with_the_one_that_goes_on(
    ended: tuple[Path, str, str],
) -> None:
    folder, name, _ = ended
    code, printed = together(
        folder, f"{name}-dead", ["stage1"], processes=1, deepspeed=example(name)
    )
    assert code != 0 and "left by 2 processes, this run has 1" in printed


def test_without_a_launcher_the_way_to_start_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match="torchrun"):
        run(folder / "data", folder / "bare", ["lm"], deepspeed=example("zero2"))
