"""A server for a long time: `make fuzz`, `make connects`, `make interruptions`.

A million messages and ten thousand clients on this machine's own address, one server for each, of
the embedded model; ten thousand interruptions of a tiny one, without a network.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from omni.engine import Engine
from tests.interrupting import interrupt_often
from tests.paths import ROOT
from tests.serving import KEY, running
from tests.talk import model, processor

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


def test_nothing_of_an_answer_comes_after_ten_thousand_voices_that_interrupt_it() -> None:
    seen = 0
    with Engine(model(), processor(), max_sessions=4) as engine:
        for seed in range(100):
            watch = interrupt_often(engine, 100, seed)
            assert watch.late == []
            seen += watch.interruptions
            print(f"{seen} interruptions")
    assert seen >= 10_000
