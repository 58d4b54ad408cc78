"""The stages of many_processes.py under torchrun, beside those that one process has trained."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM

from omni.checkpoint.bases import load_speech_encoder
from omni.loading import load
from omni.vocoder import load_vocoder
from tests.many_processes import LOOP, prepare, run
from tests.paths import ROOT

TABLE = re.compile(r"^ +step +of +loss", re.MULTILINE)  # the head of a training's table
TOLERANCE = 1e-4
HALF = 2**-10  # what lm, encoder and vocoders write is rounded to float16, to either side
VOICES = ("vocoder", "adversarial")


def alone(folder: Path, stages: list[str]) -> Path:
    """Data, bases and, in `one`, these stages as this process trains them."""
    prepare(folder / "data")
    run(folder / "data", folder / "one", stages)
    return folder


def together(
    folder: Path, name: str, stages: list[str], *, processes: int = 2, **options: object
) -> tuple[int, str]:
    """Processes with the same examples per step, into `name`: exit code and all that they print."""
    told: dict[str, object] = {
        "data": str(folder / "data"),
        "output": str(folder / name),
        "stages": stages,
        "batch_size": LOOP.batch_size // processes,
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", str(processes)]
    process = subprocess.Popen(
        [*torchrun, str(ROOT / "tests" / "many_processes.py"), json.dumps(told | options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    try:
        printed, _ = process.communicate()
    finally:
        process.terminate()  # where the test was stopped: torchrun ends what it has started
        process.wait()
    return process.returncode, printed


def killed_then_all(folder: Path, name: str, stages: list[str], **options: object) -> str:
    """Stage 1 dies in its last step; then all the stages run, it among them. What they printed.

    What the death has left is copied to `name`-dead.
    """
    code, printed = together(folder, name, ["stage1"], kill=4, **options)
    assert code != 0, printed
    found = sorted(path.name for path in (folder / name / "stage1").glob("checkpoint*"))
    assert found == ["checkpoint-3"], printed
    shutil.copytree(folder / name, folder / f"{name}-dead")
    code, printed = together(folder, name, stages, **options)
    assert code == 0, printed
    return printed


def weights(stage: Path) -> dict[str, Tensor]:
    """What the last checkpoint of the training holds, in float32."""
    last = max(stage.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return load_file(last / "model.safetensors")


def product(stage: Path) -> dict[str, Tensor]:
    """The weights of what a stage has made, as a user loads it: without any other process."""
    if stage.name == "lm":
        model = LlamaForCausalLM.from_pretrained(stage / "language_model")
    elif stage.name == "encoder":
        model = load_speech_encoder(str(stage / "encoder"))
    elif stage.name in VOICES:
        model = load_vocoder(stage / "vocoder")
    else:
        model, _ = load(stage / "checkpoint")
    return {name: value.float() for name, value in model.state_dict().items()}


def assert_same(folder: Path, name: str, stage: str) -> None:
    """Two processes ended with the weights of one, in the training and in what came of it."""
    one, two = folder / "one" / stage, folder / name / stage
    torch.testing.assert_close(weights(two), weights(one), rtol=0, atol=TOLERANCE)
    rounded = HALF if stage in ("lm", "encoder", *VOICES) else 0  # what ships is halved
    torch.testing.assert_close(product(two), product(one), rtol=rounded, atol=TOLERANCE)
