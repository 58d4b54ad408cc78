"""At the edges every command ends alike: one line on stderr, the right exit code, no traceback."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import data_tools.cli
import omni.cli
import serve.cli
import train.cli
from data_tools.manifest import Record, RecordTurn, read_manifest, write_manifest
from omni.audio import save_wav
from omni.files.errors import one_line
from omni.files.folders import write_tensors
from tests.paths import ROOT
from tests.processes import GROUP, running
from tests.published import ENCODER
from tests.tiny import tiny_model, tiny_processor

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
FULL = "/dev/full"


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a question, a manifest, and a file where nothing can lie in."""
    folder = tmp_path_factory.mktemp("edges")
    tiny_model().save_pretrained(
        folder / "checkpoint", self_contained=True, processor=tiny_processor()
    )
    save_wav(folder / "q.wav", np.random.default_rng(0).normal(0, 0.1, 16_000))
    (folder / "alpaca.json").write_text(json.dumps([{"instruction": "Why?", "output": "So."}] * 2))
    turns = (RecordTurn(role="user", text="hello there", speech="q.wav"),
             RecordTurn(role="assistant", text="hello", speech="q.wav"))  # fmt: skip
    records = [Record(id=str(n), turns=turns, split="train") for n in range(400)]
    write_manifest(folder / "records.jsonl", records)
    (folder / "file").write_text("")
    return folder


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


# ------------------------------------------------------------------------- where nothing can lie


@pytest.mark.parametrize(
    "command",
    [
        "omni ask --text hello --checkpoint checkpoint -o file/a.wav",
        "omni demo --checkpoint checkpoint -o file/answers",
        "omni demo --checkpoint checkpoint -o file",
        "omni vocode --vocoder checkpoint/vocoder --units 1 -o file/a.wav",
        "omni convert whisper nowhere.pt -o file/encoder",
        "omni convert hubert nowhere.pt -o file/units",
        "omni export checkpoint -o file/back",
        "omni-data import alpaca.json -o file/text.jsonl",
        "omni-data convert records.jsonl -o file/records.parquet --embed-audio",
        "omni-data rewrite records.jsonl -o file/asked.jsonl",
        "omni-data augment records.jsonl -o file/augmented.jsonl --workers 1",
        "omni-data check records.jsonl --sample 1 --tolerated 1 -o file/report",
        "omni-train lm records.jsonl --recipe nano -o file/lm --max-steps 1",
        "omni-serve tune --questions q.wav --checkpoint checkpoint -o file/tune",
    ],
)
def test_a_place_below_a_file_is_refused_in_one_line(
    command: str, kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(kitchen)
    monkeypatch.chdir(kitchen)
    name, *words = command.split()
    result = CliRunner().invoke(APPS[name], words)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: file") and result.stderr.splitlines()[-1] == line
    assert "Traceback" not in result.output
    assert contents(kitchen) == before


def contents(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("omni ask checkpoint", "checkpoint: is a folder"),
        ("omni ask q.wav -o checkpoint", "checkpoint: is a folder"),
        ("omni ask q.wav --checkpoint q.wav -o a.wav", "q.wav"),
        ("omni info q.wav", "q.wav"),
        ("omni units checkpoint --extractor checkpoint", "checkpoint"),
        ("omni-data import checkpoint/ -o a.jsonl", "checkpoint"),
        ("omni-data rewrite folder.jsonl -o a.jsonl", "folder.jsonl: is a directory; give a file"),
        ("omni-data build folder.jsonl", "folder.jsonl"),
        (
            "omni-train lm folder.jsonl --recipe nano -o lm",
            "folder.jsonl: is a directory; give a file",
        ),
        ("omni-train evaluate checkpoint folder.jsonl -o lm", "folder.jsonl"),
        ("omni-serve tune --questions checkpoint", "no recordings in this folder"),
        ("omni-serve bench load-robustness checkpoint", "checkpoint: is a folder"),
    ],
)
def test_a_folder_in_place_of_a_file_is_named_and_so_is_the_reverse(
    command: str, says: str, kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kitchen / "folder.jsonl").mkdir(exist_ok=True)
    before = contents(kitchen)
    monkeypatch.chdir(kitchen)
    name, *words = command.split()
    result = CliRunner().invoke(APPS[name], words)
    assert result.exit_code == 2, result.output
    assert says in result.stderr and result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert contents(kitchen) == before


# ------------------------------------------------------------------------------------- full disks


def limited(size: int) -> Callable[[], None]:
    """For the process that is started: no file may grow beyond `size` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(
    "command",
    [
        "omni ask q.wav --checkpoint checkpoint -o out/a.wav",
        f"omni convert whisper {ENCODER} -o out/encoder",
        "omni-data convert records.jsonl -o out/records.parquet --embed-audio",
        "omni-train lm records.jsonl --recipe nano -o out/lm --max-steps 1",
    ],
)
def test_a_full_disk_is_told_in_one_line(command: str, kitchen: Path) -> None:
    (kitchen / "out").mkdir(exist_ok=True)
    process = started(command, kitchen, preexec_fn=limited(2000))
    code, _, err = finished(process)
    assert code == 2, err
    assert err.splitlines()[-1].startswith("error: ") and "free some space" in err
    assert "Traceback" not in err
    if not command.startswith("omni-train"):  # that goes on from its whole checkpoints
        assert list((kitchen / "out").iterdir()) == []


@pytest.mark.parametrize("option", ["info", "--help", "--version"])
def test_what_is_printed_onto_a_full_disk_is_an_error_too(option: str, kitchen: Path) -> None:
    with open(FULL, "w") as full:
        code, _, err = finished(started(f"omni {option}", kitchen, stdout=full))
    assert code == 2
    assert err.startswith("error: output: no space left on device; free some space, or ")
    assert err.count("\n") == 1


def test_weights_that_could_not_be_written_are_told(tmp_path: Path) -> None:
    """Both are written by code that is not Python, with errors of its own."""
    tensor = {"a": torch.zeros(10_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for write in (write_tensors, lambda path, value: torch.save(value, path)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        try:
            with pytest.raises(Exception) as caught:
                write(tmp_path / "weights", tensor)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "free some space" in (one_line(caught.value) or "")
    assert one_line(RuntimeError("a mistake of ours")) is None


# ----------------------------------------------------------------------------------- Ctrl-C, pipes


def interrupted(process: subprocess.Popen, begins: Callable[[], bool]) -> tuple[int, str, str]:
    """Ctrl-C as a terminal gives it, to the whole process group, as soon as the work has begun."""
    patience = time.monotonic() + 100
    while not begins():
        assert process.poll() is None and time.monotonic() < patience, finished(process)
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    return finished(process)


def test_ctrl_c_stops_an_answer(kitchen: Path) -> None:
    process = started("omni demo -o answers", kitchen)
    code, _, err = interrupted(process, lambda: any((kitchen / "answers").glob("*.wav")))
    assert (code, err) == (130, "stopped\n")
    for path in (kitchen / "answers").iterdir():
        assert path.suffix == ".wav" and soundfile.info(path).duration > 0.1


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_stops_a_step_and_its_workers(workers: int, kitchen: Path) -> None:
    process = started(
        f"omni-data augment records.jsonl -o stopped{workers}.jsonl --workers {workers}", kitchen
    )
    journal = kitchen / f".stopped{workers}.augment.journal"
    code, _, err = interrupted(process, lambda: journal.exists() and journal.stat().st_size > 0)
    assert code == 130 and err.splitlines()[-1] == "stopped" and "Traceback" not in err
    assert not (kitchen / f"stopped{workers}.jsonl").exists()


def test_ctrl_c_stops_training(kitchen: Path) -> None:
    process = started("omni-train lm records.jsonl --recipe nano -o trained --epochs 1000", kitchen)
    code, _, err = interrupted(process, lambda: any((kitchen / "trained").rglob("events.*")))
    assert code == 130 and err.splitlines()[-1] == "stopped" and "Traceback" not in err


def test_ctrl_c_stops_a_measurement_and_what_kept_the_cores_busy(kitchen: Path) -> None:
    process = started("omni-serve bench load-robustness q.wav --checkpoint checkpoint", kitchen)
    code, _, err = interrupted(process, lambda: len(running(GROUP, process.pid)) > 1)
    assert code == 130 and err.splitlines()[-1] == "stopped" and "Traceback" not in err
    assert running(GROUP, process.pid) == set()


@pytest.mark.parametrize(
    "command",
    ["omni --help", "omni info", "omni-data --help", "omni-train lm --help"],
)
def test_a_reader_that_has_gone_ends_a_command_quietly(command: str, kitchen: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = started(command, kitchen, stdout=writer)
    os.close(writer)
    code, _, err = finished(process)
    assert (code, err) == (141, "")


def test_a_reader_of_the_first_letter_gets_no_half_answer(kitchen: Path) -> None:
    process = started("omni ask --text hello --checkpoint checkpoint -o half.wav", kitchen)
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    process.stdout = None
    code, _, err = finished(process)
    assert (code, err) == (141, "")
    assert not list(kitchen.glob("*half.wav*"))


# -------------------------------------------------------------------------------------- odd names


def test_names_with_spaces_and_bytes_that_are_no_text_are_read_written_and_said(
    kitchen: Path,
) -> None:
    question, answer = "a \udcffquestion\u00e9.wav", "an \udcffanswer.wav"
    (kitchen / question).write_bytes((kitchen / "q.wav").read_bytes())
    ask = ["ask", question, "--checkpoint", "checkpoint", "-o", answer]
    done = subprocess.run(
        [sys.executable, "-m", "omni.cli", *ask],
        cwd=kitchen, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert os.fsencode(answer) in done.stdout
    assert soundfile.info(os.fsencode(kitchen / answer)).samplerate == 16_000


def test_an_odd_name_in_an_error_is_still_one_line(kitchen: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "omni.cli", "ask", "no \udcff\nsuch.wav", "-o", "a.wav"],
        cwd=kitchen, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: no \xff such.wav: no such file")
    assert done.stderr.count(b"\n") == 1


def test_recordings_with_odd_names_are_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    save_wav(folder / "fine.wav", np.full(1600, 0.1))
    (folder / "fine.txt").write_text("Fine?")
    run = CliRunner().invoke
    inside = run(data_tools.cli.app, ["import", str(folder), "-o", str(folder / "a.jsonl")])
    assert inside.exit_code == 0, inside.output
    assert len(read_manifest(folder / "a.jsonl").records) == 1
    for suffix in (".wav", ".txt"):
        (folder / f"caf\udce9{suffix}").write_bytes((folder / f"fine{suffix}").read_bytes())
    for name in ("b.jsonl", "b.parquet"):
        result = run(data_tools.cli.app, ["import", str(folder), "-o", str(tmp_path / name)])
        assert result.exit_code == 2 and "is no UTF-8; rename" in result.stderr
    assert not list(tmp_path.glob("*b.*"))


# -------------------------------------------------------------------------------------- the same


@pytest.mark.parametrize("name", APPS)
def test_every_command_says_its_version(name: str) -> None:
    result = CliRunner().invoke(APPS[name], ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"{name} {omni.__version__}\n")


@pytest.mark.parametrize("old", ["--out", "-o", "--output"])
def test_earlier_spellings_are_understood_and_not_shown(
    old: str, kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kitchen)
    ask = ["ask", "--text", "hello", "--checkpoint", "checkpoint", old, str(tmp_path / "a.wav")]
    assert CliRunner().invoke(omni.cli.app, ask).exit_code == 0
    assert (tmp_path / "a.wav").is_file()
    assert "--out " not in CliRunner().invoke(omni.cli.app, ["ask", "--help"]).stdout


def test_the_public_names_of_omni_are_shown() -> None:
    assert {"load", "SpeechSession", "__version__"} <= set(dir(omni)) == set(omni.__all__)
