"""The four commands, in this process or as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import data_tools.cli
import omni.cli
import serve.cli
import train.cli
from tests.paths import ROOT

MODULES = {
    "omni": "omni.cli",
    "omni-data": "data_tools.cli",
    "omni-train": "train.cli",
    "omni-serve": "serve.cli",
}
APPS = {
    "omni": omni.cli.app,
    "omni-data": data_tools.cli.app,
    "omni-train": train.cli.app,
    "omni-serve": serve.cli.app,
}


def started(command: str, kitchen: Path, **options) -> subprocess.Popen:
    """The command in a process and a process group of its own; words are split at spaces."""
    name, *words = command.split()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("OMNI_DEBUG", None)
    return subprocess.Popen(
        [sys.executable, "-m", MODULES[name], *words],
        cwd=kitchen, env=environment, stderr=subprocess.PIPE, start_new_session=True,
        **({"stdout": subprocess.PIPE} | options),
    )  # fmt: skip


def finished(process: subprocess.Popen) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)"""
    out, err = process.communicate(timeout=120)
    return process.returncode, (out or b"").decode(), err.decode()
