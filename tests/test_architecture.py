"""The rules of the house: who may import whom, how long a file may be, what none may hold.

A room is a folder of one concern; a flat file of a package counts as a room of its own.
"""

import ast
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.source import parsed

PACKAGES = ("omni", "train", "data_tools", "serve")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ROOMS = {
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in FILES
    if path.name == "__init__.py" and path.parent.parent != ROOT
}
PARTS = ("speech_encoder", "speech_adapter", "language_model", "unit_decoder", "vocoder")
# What a package may import of the others; omni imports none.
ALLOWED = {
    "omni": set(),
    "serve": {"omni"},
    "data_tools": {"omni"},
    "train": {"omni", "data_tools.manifest", "data_tools.speech"},
}
LINE_LIMIT = 320
# The embedded model and the small real one: rooms of their own, which no general room knows.
MODELS = {"nano", "mini"}
# The commands that make them: each names the room that does it.
MODEL_DOORS = {"data_tools/cli.py", "train/cli.py"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function."""
    modules: set[str] = set()
    for node in ast.walk(parsed(path)):
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
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]


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
    assert {"omni/model.py", "train/loop/loop.py", "serve/tune/tuning.py"} <= {
        name_of(path) for path in FILES
    }
    assert "omni.values.Frames" in imported(ROOT / "omni" / "model.py")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    package = name_of(path).split("/")[0]
    for module in imported(path):
        if module.split(".")[0] in PACKAGES:
            assert may_import(package, module), f"{name_of(path)} imports {module}"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room that a module lies in: "omni.session" of "omni.session.reply"."""
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), default="")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_other_rooms_are_entered_by_their_door(path: Path) -> None:
    own = room_of(module_of(path))
    for module in imported(path):  # with the imported name: "omni.session.SpeechSession"
        room = room_of(module)
        if room and room != own and not own.startswith(f"{room}."):
            inside = module.removeprefix(f"{room}.")
            assert "." not in inside, f"{name_of(path)} imports {module}, past the door of {room}"


def needs() -> dict[str, set[str]]:
    """Of each room the rooms of its package that it imports, for its types alone left out."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        tree = parsed(path)
        typing = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        own = ".".join(module_of(path).split(".")[:2])
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing:
                other = ".".join(node.module.split(".")[:2])
                if other != own and other.split(".")[0] == own.split(".")[0]:
                    found.setdefault(own, set()).add(other)
    return found


def test_rooms_stand_in_one_order() -> None:
    """No room needs, by whatever way, one that needs it."""
    try:
        order = list(TopologicalSorter(needs()).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    # Of omni, what the plan of the house says: files, parts, model, session, commands.
    pillars = ["files", "speech_encoder", "units", "checkpoint", "model", "session", "commands"]
    places = [order.index(f"omni.{room}") for room in pillars]
    assert places == sorted(places)


@pytest.mark.parametrize("part", PARTS)
def test_parts_do_not_know_each_other(part: str) -> None:
    single = ROOT / "omni" / f"{part}.py"
    files = [single] if single.is_file() else sorted((ROOT / "omni" / part).rglob("*.py"))
    assert files, f"part {part} has no file"
    others = tuple(f"omni.{other}" for other in PARTS if other != part)
    for path in files:
        for module in imported(path):
            joined = any(module == other or module.startswith(f"{other}.") for other in others)
            assert not joined, f"{name_of(path)} imports {module}; only omni/model.py joins parts"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_general_room_imports_a_nano_or_mini(path: Path) -> None:
    own = MODELS & set(path.relative_to(ROOT).parts)
    if name_of(path) in MODEL_DOORS:
        return
    for module in imported(path):
        of = MODELS & set(module.split("."))
        # The mini's data begins with the nano's facts; the nano knows nothing of the mini.
        assert of <= (MODELS if "mini" in own else own), f"{name_of(path)} imports {module}"


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


def test_every_folder_of_tests_is_run(pytestconfig: pytest.Config) -> None:
    """pytest by itself passes over folders with names such as `build`."""
    passed_over = pytestconfig.getini("norecursedirs")
    folders = [path for path in (ROOT / "tests").rglob("*") if path.is_dir()]
    assert folders
    unseen = [name_of(path) for path in folders for name in passed_over if fnmatch(path.name, name)]
    assert not unseen


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
from omni.values import Frames
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
