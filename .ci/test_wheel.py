"""The wheel is what users get: built, installed into an empty environment, used from elsewhere.

Run by `make wheel-test`, apart from the other tests: it installs everything once more, without
extras and with the versions that the ranges take by themselves. PIP_ARGS goes to `pip install`.
"""

import os
import shlex
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from tests.extras import ROOMS_OF_EXTRAS

pytestmark = pytest.mark.timeout(1200)  # the first test waits for the installation

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("omni", "train", "data_tools", "serve")
QUESTION = ROOT / "omni/nano/questions/1-capital-of-france.wav"
Run = Callable[..., str]

IMPORT_EVERYTHING = f"""
import importlib, pkgutil
for package in {PACKAGES}:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.startswith({ROOMS_OF_EXTRAS}):
            importlib.import_module(module.name)
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source archive, as `python -m build` does by itself."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", folder, ROOT]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a program of an environment that holds the wheel alone, in a folder that is empty."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home / "venv", with_pip=True)
    # What would lead back to this checkout or to the environment that runs the tests.
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}

    def run(program: str, *arguments: object, folder: Path = home) -> str:
        command = [home / "venv/bin" / program, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{program} {arguments}:\n{done.stdout}{done.stderr}"
        return done.stdout

    options = shlex.split(os.environ.get("PIP_ARGS", ""))
    run("python", "-m", "pip", "install", "--disable-pip-version-check", "-qq", *options, wheel)
    return run


def assert_speech(path: Path) -> None:
    samples, rate = soundfile.read(path)
    assert rate == 16_000
    assert len(samples) > rate / 4 and abs(samples).max() > 0.01, f"{path}: no speech in it"


def test_the_wheel_holds_every_file_of_its_packages_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    # Files that no import would miss.
    assert {"omni/py.typed", "serve/py.typed", "omni/session/__init__.pyi"} <= held
    assert {"data_tools/writers/prompts/respond.txt", "data_tools/check/report.html.jinja"} <= held
    assert "omni/nano/checkpoint/unit_decoder.safetensors" in held
    assert f"omni/nano/questions/{QUESTION.name}" in held


def test_it_is_imported_from_the_wheel(run: Run) -> None:
    path = Path(run("python", "-c", "import omni; print(omni.__file__)").strip())
    assert "site-packages" in path.parts and ROOT not in path.parents


def test_every_module_is_imported_without_extras(run: Run) -> None:
    run("python", "-c", IMPORT_EVERYTHING)


def test_what_is_installed_fits_together(run: Run) -> None:
    run("python", "-m", "pip", "check")


@pytest.mark.parametrize("program", ["omni", "omni-data", "omni-train", "omni-serve"])
def test_every_command_explains_itself(run: Run, program: str) -> None:
    assert f"Usage: {program}" in run(program, "--help")


def test_info_describes_the_nano_inside(run: Run) -> None:
    assert "unit_decoder" in run("omni", "info")


def test_ask_answers_in_text_and_speech(run: Run, tmp_path: Path) -> None:
    assert "Paris" in run("omni", "ask", QUESTION, "-o", "answer.wav", folder=tmp_path)
    assert_speech(tmp_path / "answer.wav")


def test_demo_answers_every_recording_inside(run: Run, tmp_path: Path) -> None:
    run("omni", "demo", folder=tmp_path)
    answers = sorted((tmp_path / "demo").glob("*.wav"))
    assert len(answers) == len(list(QUESTION.parent.glob("*.wav")))
    for answer in answers:
        assert_speech(answer)
