"""A server for a long time: a million messages, ten thousand clients. `make fuzz`, `make connects`.

On this machine's own address, one server for each, of the embedded model.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.serving import KEY, running

pytestmark = pytest.mark.timeout(0)


def bench(folder: Path, *options: str) -> None:
    settings = folder / "serve.yaml"
    settings.write_text("limits: {messages_per_s: 1000000, session_s: 100000}\n")
    with running(folder, "--config", str(settings)) as served:
        address = f"ws://127.0.0.1:{served.port}/v1/realtime"
        command = [sys.executable, "-m", "serve.cli", "bench", options[0], address, *options[1:]]
        subprocess.run([*command, "--api-key", KEY], cwd=ROOT, check=True)


def test_a_million_wrong_messages_end_no_session(tmp_path: Path) -> None:
    bench(tmp_path, "fuzz", "--messages", "1000000")


def test_ten_thousand_clients_leave_no_memory_behind(tmp_path: Path) -> None:
    bench(tmp_path, "connects", "--connects", "10000", "--most", "2")
