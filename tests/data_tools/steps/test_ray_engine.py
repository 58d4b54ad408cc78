"""Ray: the same steps on two nodes give the same data set, whatever happens to a worker."""

import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from data_tools.cli import app
from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Record, read_manifest, write_manifest
from data_tools.steps.ray_workers import RayExecutor, SharedJob, gpus_per_worker, shared
from data_tools.steps.workers import Job, executor_of
from omni.files.errors import UserError
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig, save_speech_encoder
from omni.units.config import UnitsConfig
from omni.units.extractor import UnitExtractor

pytestmark = pytest.mark.timeout(400)  # on a busy machine; a minute at most on an idle one
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
RECIPE = {
    "read": {"source": "text.jsonl"},
    "steps": [
        {"rewrite": {"writer": {"kind": "rules", "fillers": 1.0}}},
        {"speak": {"question": {"voices": ["flite-awb", "flite-kal16", "flite-rms"]}}},
        {"augment": {}},
        {"units": {"units": "units", "encoder": "encoder", "batch_size": 2}},
    ],
    "out": "local",
    "check": {"tolerated": 0.5},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of two nodes of one core each."""
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "150")  # on a busy machine
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    nodes.add_node(**NODE)
    yield nodes.address
    ray.shutdown()
    time.sleep(3)  # threads of Ray's that still live when the nodes go end the whole process
    nodes.shutdown()


@dataclass(frozen=True)
class Errand:
    """Does `task` to each number, in whatever process; for jobs of a line."""

    task: Callable[[int], Any]
    workers: int | None = None
    device: str = "cpu"

    def open(self, root: Path) -> "Errand":
        return self

    def __call__(self, numbers: Sequence[int]) -> list[Any]:
        return [self.task(number) for number in numbers]

    def close(self) -> None:
        pass


def done(address: str, task: Callable[[int], Any], root: Path, **options: int) -> list[Any]:
    import ray.cloudpickle

    # Workers can't import the tests.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    batches = [[number] for number in range(6)]
    with closing(RayExecutor(address).run(Errand(task), batches, root=root, **options)) as running:
        found = dict(running)
    return [result for place in sorted(found) for result in found[place]]


def test_two_nodes_make_the_data_set_of_one_machine(cluster, tmp_path):
    records = [
        Record(
            id=word,
            turns=(
                RecordTurn(role="user", text=f"describe the number {word}."),
                RecordTurn(role="assistant", text=f"The number {word} is small."),
            ),
        )
        for word in ("one", "two", "three", "four", "five", "six")
    ]
    write_manifest(tmp_path / "text.jsonl", records)
    torch.manual_seed(0)
    encoder = SpeechEncoder(
        SpeechEncoderConfig(n_mels=20, width=16, layers=1, heads=2, ffn=32)
    ).eval()
    save_speech_encoder(encoder, tmp_path / "encoder")
    config = UnitsConfig(kind="speech_encoder", name="tiny", layer=1)
    UnitExtractor(config, torch.randn(20, 16), encoder).save(tmp_path / "units")

    for out, options in (("local", []), ("ray", ["--executor", "ray", "--ray-address", cluster])):
        recipe = tmp_path / f"{out}.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE | {"out": out}))
        ended = CliRunner().invoke(app, ["build", str(recipe), *options])
        assert ended.exit_code == 0, ended.output
    made = read_manifest(tmp_path / "ray/records.jsonl").records
    assert [record.id for record in made] == [record.id for record in records]
    assert all(record.turns[1].units for record in made)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")

    recipe.write_text(yaml.safe_dump(RECIPE | {"out": "ray"}))
    again = CliRunner().invoke(app, ["build", str(recipe)])  # what the cluster kept, we keep
    assert again.exit_code == 0 and again.output.count("0 new") == len(RECIPE["steps"])


def test_ray_counts_nothing_for_its_makers(cluster, tmp_path, monkeypatch):
    from ray._common.usage.usage_lib import usage_stats_enabled

    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    RayExecutor(cluster).connect()
    assert not usage_stats_enabled()


def contents(folder: Path) -> dict[str, str]:
    """Every file of the data set but the journals, which name times of change."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".steps" not in path.parts
    }


def test_every_node_works_and_a_killed_worker_is_replaced_and_its_batch_done_again(
    cluster, tmp_path
):
    victim = tmp_path / "victim"

    def task(number: int) -> tuple[int, str]:
        import time

        import ray

        time.sleep(0.2)  # so that no worker does all
        if number == 3 and not victim.exists():
            victim.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number, ray.get_runtime_context().get_node_id()

    squares, nodes = zip(*done(cluster, task, tmp_path), strict=True)
    assert squares == (0, 1, 4, 9, 16, 25)
    assert victim.exists()
    assert len(set(nodes)) == 2


def test_more_workers_than_the_cluster_has_cores_are_refused(cluster, tmp_path):
    with pytest.raises(UserError, match="workers=3: the cluster has room for 2"):
        done(cluster, abs, tmp_path, workers=3)


def test_an_error_of_a_worker_keeps_its_kind_and_words(cluster, tmp_path):
    def task(number: int) -> int:
        raise UserError("one is refused")

    with pytest.raises(UserError, match="one is refused") as caught:
        done(cluster, task, tmp_path)
    assert str(caught.value) == "one is refused"
    assert list(tmp_path.iterdir()) == []
    # At once, and while the error is held: a run that Ray goes on with in the background may
    # outlive ray.shutdown(), and Ray then ends the whole process.
    assert running_in_background() == []


def running_in_background() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "Executor-" in thread.name]


def test_a_node_that_does_not_see_the_folder_is_told_of(tmp_path):
    job: Job = Errand(abs)
    (tmp_path / "elsewhere").mkdir()
    with shared(tmp_path) as token:
        assert SharedJob(job, token).open(tmp_path) is job
        with pytest.raises(UserError, match=r"elsewhere: a node .* storage that all nodes mount"):
            SharedJob(job, token).open(tmp_path / "elsewhere")
        with pytest.raises(UserError, match="doesn't see this folder"):
            SharedJob(job, "of another run").open(tmp_path)
    assert not any(path.is_file() for path in tmp_path.iterdir())


def test_a_worker_gets_a_gpu_where_its_device_is_one():
    assert gpus_per_worker("cpu", {"CPU": 2.0, "GPU": 1.0}) == 0
    assert gpus_per_worker("cuda:0", {"GPU": 1.0}) == gpus_per_worker("auto", {"GPU": 1.0}) == 1
    assert gpus_per_worker("auto", {"CPU": 2.0}) == 0
    with pytest.raises(UserError, match="device cuda: the cluster has no GPU"):
        gpus_per_worker("cuda", {"CPU": 2.0})


def test_without_ray_or_without_its_cluster_the_remedy_is_named(monkeypatch, tmp_path):
    import ray

    def unreachable(**options: object) -> None:
        raise ConnectionError("no answer")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", unreachable)
    with pytest.raises(UserError, match=r"Ray cluster far:6379: can't be reached .*ray start"):
        done("far:6379", abs, tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'omni-speech\[ray\]'"):
        executor_of("ray")
