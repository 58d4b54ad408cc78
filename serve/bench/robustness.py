"""`omni-serve bench load-robustness`: how much longer an answer takes beside busy processes."""

# Heavy imports stand inside the functions: `omni-serve --help` must not wait for torch.
from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from omni.files import UserError

TOO_SLOW = 1  # exit code; 2 is bad input
PATIENCE_S = 120.0  # for one answer; threads that spin against each other may need hours
# Busy until the process that started it has gone, however that ended.
SPIN = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question in a process of its own. answer_s: from the question's end to the reply's end;
    process_s: from the start of the process to its end. Both infinite if it never came."""

    answer_s: float
    process_s: float


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """The first of each has no remembered number of threads, and tries."""

    idle: Sequence[Asked]
    busy: Sequence[Asked]

    def ratios(self) -> dict[str, tuple[float, float, float]]:
        """What was timed -> seconds idle, seconds busy (medians), and how many times as long."""
        found = {}
        for name, time_of, chosen in (
            ("answer", lambda asked: asked.answer_s, slice(1, None)),
            ("process", lambda asked: asked.process_s, slice(1, None)),
            ("first process", lambda asked: asked.process_s, slice(0, 1)),
        ):
            idle, busy = (
                statistics.median(map(time_of, asked[chosen])) for asked in (self.idle, self.busy)
            )
            found[name] = (idle, busy, busy / idle)
        return found


def load_robustness(
    command: Sequence[str],
    *,
    repeats: int,
    others: int,
    patience_s: float = PATIENCE_S,
    progress: Callable[[], object] = lambda: None,
) -> Robustness:
    """Ask `1 + repeats` times on the machine as it is, and as often beside busy processes.

    command: asks one question and prints `omni ask --json`'s object. others: how many are busy.
    """
    # Files and imports are read once, so that the disk is not measured.
    ask(command, os.environ, patience_s)
    found = []
    for count in (0, others):
        # A memory of its own: what is remembered of this machine would hide the first try.
        with tempfile.TemporaryDirectory(prefix="omni-bench-") as folder, busy(count):
            asked = []
            for _ in range(1 + repeats):
                asked.append(ask(command, _with_cache(folder), patience_s))
                progress()
            found.append(asked)
    return Robustness(idle=found[0], busy=found[1])


def ask(command: Sequence[str], environment: Mapping[str, str], wait_s: float) -> Asked:
    """Raises UserError with what the command said if it failed."""
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=wait_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Asked(answer_s=float("inf"), process_s=float("inf"))
    process_s = time.perf_counter() - started
    if done.returncode:
        raise UserError(done.stderr.strip().removeprefix("error: ") or f"{command}: failed")
    answer_ms = json.loads(done.stdout)["timings_ms"]["total_ms"]
    return Asked(answer_s=answer_ms / 1000, process_s=process_s)


@contextmanager
def busy(count: int) -> Generator[None]:
    """So many processes that compute without end, for as long as the block lasts."""
    command = [sys.executable, "-c", SPIN, str(os.getpid())]
    running = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def _with_cache(folder: str) -> dict[str, str]:
    """The environment with another cache folder, and Hugging Face's where it was."""
    from huggingface_hub.constants import HF_HOME

    return os.environ | {"XDG_CACHE_HOME": folder, "HF_HOME": HF_HOME}


def load_robustness_command(
    question: Annotated[
        Path | None,
        typer.Argument(metavar="QUESTION.wav", help="Default: the first that comes with omni."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_DIR_OR_HUB_ID",
            help="The model: nano (the default), mini, or any other.",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Times that the question is asked.")] = 5,
    busy_processes: Annotated[
        int | None, typer.Option("--busy", min=1, help="Other processes; default: one per core.")
    ] = None,
    limit: Annotated[float, typer.Option(min=1, help="Times as long as idle, at most.")] = 4.0,
) -> None:
    """Ask beside processes that keep all cores busy: exit code 1 if it takes too long.

    Each question is an `omni ask` of its own. Run it on an otherwise idle machine.
    """
    from tqdm import tqdm

    from omni.audio import load_audio

    cores = len(os.sched_getaffinity(0))
    others = busy_processes or cores
    asked = question or sorted((Path(__file__).parents[2] / "omni/nano/questions").glob("*.wav"))[0]
    load_audio(asked)  # refuses what can't be asked
    load_before = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="omni-bench-") as folder,
        tqdm(total=2 * (1 + repeats), unit="answer") as bar,
    ):
        command = [sys.executable, "-m", "omni.cli", "ask", str(asked), "--json"]
        command += ["--output", str(Path(folder) / "answer.wav")]
        command += [] if checkpoint is None else ["--checkpoint", checkpoint]
        found = load_robustness(command, repeats=repeats, others=others, progress=bar.update)
    ratios = found.ratios()
    _print(ratios)
    typer.echo(
        f"{asked}: asked {repeats} times, {others} busy processes on {cores} cores, load before "
        f"{load_before:.1f}"
    )
    worst = max(ratio for _, _, ratio in ratios.values())
    typer.echo(f"at most {worst:.1f} times as long as idle; limit {limit:g}")
    if worst > limit:
        raise typer.Exit(TOO_SLOW)


def _print(ratios: dict[str, tuple[float, float, float]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for title in ("", "idle", "busy", "ratio"):
        table.add_column(title, justify="right")
    for name, (idle, loaded, ratio) in ratios.items():
        table.add_row(name, f"{idle:.2f} s", f"{loaded:.2f} s", f"{ratio:.1f}")
    Console().print(table)
