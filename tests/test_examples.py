"""Each example runs as its first lines say, stays short, and does what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

SAYS = {
    "tts_engine.py": "1.68 s, peak",
    "llm_writer.py": "What time is it, kindly?",
    "vocoder.py": "as whole: True",
    "recogniser.py": "right: 100%",
}


def test_every_example_is_tried() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == SAYS.keys()


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_and_is_short(name: str, tmp_path: Path) -> None:
    path = ROOT / "examples" / name
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert SAYS[name] in done.stdout, done.stderr
    assert len(path.read_text().splitlines()) <= 60
