"""`omni-serve run` as a process of its own, for the tests of what only a process can do."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.paths import ROOT

KEY = "correct-horse"
BEARER = {"authorization": f"Bearer {KEY}"}


class Served:
    """The process, and where it listens. told: what start-up printed."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self.told = ""
        while "limits: " not in self.told:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, errors.read_text()
            self.told += line
        (port,) = re.findall(r"wss?://127\.0\.0\.1:(\d+)/v1/realtime", self.told)
        self.port = int(port)
        self._errors = errors

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Over a connection of its own, as a probe does it."""
        return httpx.get(
            f"http://127.0.0.1:{self.port}{path}", headers=BEARER, timeout=60, **options
        )

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        (value,) = re.findall(rf"^{name} (\S+)$", self.get("/metrics").text, re.M)
        return float(value)

    def end(self) -> tuple[int, str]:
        """Wait until it has ended: its exit code, and all that it has printed."""
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, self.told + output + self._errors.read_text()


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Served]:
    """The embedded model behind a key, at a free port, in one thread."""
    errors = folder / "errors.txt"
    command = [sys.executable, "-m", "serve.cli", "run", "--port", "0", "--threads", "1"]
    with errors.open("w") as stream:
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=stream,
            env=os.environ | {"OMNI_API_KEY": KEY},
        )  # fmt: skip
    try:
        yield Served(process, errors)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
