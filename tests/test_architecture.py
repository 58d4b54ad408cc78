"""The rules of the layout: who may import whom, how long a file may be, what none may hold."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("omni", "train", "data_tools", "serve")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
STAGES = ("speech_encoder", "speech_adapter", "language_model", "unit_decoder", "vocoder")
# What a package may import of the others; omni imports none.
ALLOWED = {
    "omni": set(),
    "serve": {"omni"},
    "data_tools": {"omni"},
    "train": {"omni", "data_tools.manifest", "data_tools.augment"},
}
LINE_LIMIT = 320


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import; write the whole path"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def may_import(package: str, module: str) -> bool:
    doors = {package, *ALLOWED[package]}
    return any(module == door or module.startswith(f"{door}.") for door in doors)


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def tracked_files() -> list[Path]:
    """What git knows or would add; every file in a copy without git."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.split("\0")  # fmt: skip
        return [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    return FILES


def test_the_test_sees_the_code() -> None:
    assert {"omni/model.py", "train/loop.py", "serve/tune.py"} <= {name_of(path) for path in FILES}
    assert "omni.stages.Frames" in imported(ROOT / "omni" / "model.py")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    package = name_of(path).split("/")[0]
    for module in imported(path):
        if module.split(".")[0] in PACKAGES:
            assert may_import(package, module), f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("stage", STAGES)
def test_stages_do_not_know_each_other(stage: str) -> None:
    single = ROOT / "omni" / f"{stage}.py"
    files = [single] if single.is_file() else sorted((ROOT / "omni" / stage).rglob("*.py"))
    assert files, f"stage {stage} has no file"
    others = tuple(f"omni.{other}" for other in STAGES if other != stage)
    for path in files:
        for module in imported(path):
            joined = any(module == other or module.startswith(f"{other}.") for other in others)
            assert not joined, f"{name_of(path)} imports {module}; only omni/model.py joins stages"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINE_LIMIT


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_libraries_never_print(path: Path) -> None:
    if path.name in ("cli.py", "errors.py"):  # the terminal's own files
        return
    printing = [
        call.lineno
        for call in calls(path)
        if isinstance(call.func, ast.Name) and call.func.id == "print"
    ]
    assert printing == [], f"{name_of(path)} prints in lines {printing}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_pickles_are_never_trusted(path: Path) -> None:
    for call in calls(path):
        if ast.unparse(call.func) != "torch.load":
            continue
        safe = [
            k for k in call.keywords if k.arg == "weights_only" and ast.unparse(k.value) == "True"
        ]
        assert safe, f"{name_of(path)}:{call.lineno}: torch.load without weights_only=True"


def test_no_file_names_a_machine() -> None:
    """Paths of one developer's machine, and addresses inside a network, help nobody else."""
    forbidden = re.compile(
        r"/(?:root|home/\w+|Users/\w+|opt/(?:wheels|pypi))/|\.\./shared|"
        r"//(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d"
    )
    for path in tracked_files():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # weights and recordings
        for number, line in enumerate(text.splitlines(), 1):
            found = forbidden.search(line)
            assert found is None, f"{name_of(path)}:{number} names {found and found.group()!r}"


def test_the_parts_that_are_ours_stand_on_torch_alone() -> None:
    """They can serve other engines, and no release of transformers can break them."""
    code = """
import sys
sys.modules["transformers"] = None  # importing it raises ImportError from now on
import torch
from omni.ctc import best_units
from omni.speech_adapter import SpeechAdapter, SpeechAdapterConfig
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from omni.stages import Frames
from omni.unit_decoder import UnitDecoder, UnitDecoderConfig
from omni.vocoder import NsfConfig, NsfVocoder, UnitHifiGan, vocode
sizes = dict(width=8, layers=1, heads=2, ffn=8)
encoder = SpeechEncoder(SpeechEncoderConfig(n_mels=4, **sizes))
adapter = SpeechAdapter(SpeechAdapterConfig(stack=5, hidden=8), input_width=8, output_width=8)
decoder = UnitDecoder(UnitDecoderConfig(input_width=8, num_units=9, **sizes))
frames = encoder(torch.randn(1, 4, 40), torch.ones(1, 40, dtype=torch.bool))
print(len(best_units(decoder(adapter(frames)))))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
