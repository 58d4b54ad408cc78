"""Without extras everything is imported and answers, and an extra is enough for its features."""

import subprocess
import sys

import pytest

from tests.extras import EXTRAS, OPTIONAL, PACKAGES, ROOMS_OF_EXTRAS, distribution
from tests.paths import ROOT


def without(packages: set[str], code: str) -> str:
    """What the code prints in a process that can't import these."""
    block = f"import sys\nfor name in {sorted(packages)}: sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", block + code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_extras_every_module_is_imported_and_the_nano_answers() -> None:
    code = f"""
import importlib, pkgutil
for package in {PACKAGES}:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.startswith({ROOMS_OF_EXTRAS}):
            importlib.import_module(module.name)
import omni
*_, done = omni.SpeechSession(*omni.load()).ask("What is the capital of Italy?")
print(done.text)
"""
    assert "Rome" in without(OPTIONAL, code)


FEATURES = {  # extra -> what its packages are there for
    "train": """
import numpy, sklearn.cluster, torch.utils.tensorboard
from train.bases.encoder import character_error_rate
from types import SimpleNamespace
row = numpy.array([[2, 0, 3]])
print(character_error_rate(SimpleNamespace(predictions=row, label_ids=row))["cer"])
""",
    "eval": """
from omni.metrics import word_error_rate
from train.evaluation.judges import Judge
import numpy
assert Judge(["yes", "no"]).hear(numpy.zeros(1600, "float32")) in ("", "yes", "no")
print(word_error_rate(["a b"], ["a b"], normaliser="basic").rate)
""",
    "serve": """
from pathlib import Path
from tempfile import TemporaryDirectory
from serve.tune.drawing import plot
from serve.tune.tuning import Machine, Report
machine = Machine(cores=1, torch_threads=1, device="cpu", load_before=0, load_after=0)
report = Report(
    rows=(), best=None, budget_ms=1.0, questions=1, mute=0, repeats=1, machine=machine
)
with TemporaryDirectory() as folder:
    import serve.web.app, serve.web.running
    from serve.realtime import silero
    silero()
    plot(report, Path(folder) / "a.svg")
    print(0.0 if (Path(folder) / "a.svg").stat().st_size else "empty")
""",
    "ray": """
from data_tools.steps.workers import executor_of
import ray.data
print(0.0 if executor_of("ray") else "none")
""",
}


@pytest.mark.parametrize("extra", FEATURES)
def test_an_extra_is_enough_for_its_features(extra: str) -> None:
    others = {module for module in OPTIONAL if distribution(module) not in EXTRAS[extra]}
    assert without(others, FEATURES[extra]) == "0.0"
