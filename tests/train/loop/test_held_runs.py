"""A run belongs to one process at a time, and to none that was killed."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from omni.files.errors import UserError
from tests.paths import ROOT
from train.loop.run import begin_run


def test_a_run_that_another_process_is_at_work_on_is_refused_and_kept(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from train.loop import begin_run
run = begin_run(Path(sys.argv[1]), "lm", {}, product="language_model")
print("began", flush=True)
sys.stdin.readline()
run.finish({"loss": 1.0})
print("ended", flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    begin = partial(begin_run, tmp_path, "lm", {}, product="language_model")
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "began\n"
        (tmp_path / "language_model").mkdir()
        for restart in (False, True):
            with pytest.raises(UserError, match="another process is at work on this run; wait"):
                begin(restart=restart)
        assert (tmp_path / "language_model").is_dir()
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "ended\n"
        assert begin().result == {"loss": 1.0}  # it ended, if its process did not
        anew = begin(restart=True)
        other.kill()
    assert anew.result is None


def test_a_run_whose_process_was_killed_goes_on_and_one_that_failed_does_here(
    tmp_path: Path,
) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from train.loop import begin_run
run = begin_run(Path(sys.argv[1]), "lm", {}, product="language_model")
if os.fork() == 0:  # a worker that outlives it
    sys.stdin.readline()
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE
    ) as other:
        assert other.wait() == -signal.SIGKILL
        first = begin_run(tmp_path, "lm", {}, product="language_model")
        again = begin_run(tmp_path, "lm", {}, product="language_model")
    assert first.hold is again.hold is not None
