"""Extras hold what the code imports, the docs name them, and what misses one says so at once."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

import data_tools.cli
import serve.cli
import train.cli
from data_tools.manifest import Manifest
from omni.files.errors import UserError
from omni.files.optional import need
from tests.paths import ROOT
from tests.source import parsed

PACKAGES = ("omni", "train", "data_tools", "serve")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


CORE = names(PROJECT["dependencies"])
FOR_DEVELOPERS = {"test", "docs"}  # what `make` uses
EXTRAS = {
    extra: names(lines)
    for extra, lines in PROJECT["optional-dependencies"].items()
    if extra not in FOR_DEVELOPERS
}
# Bound by the ranges of those that bring them; a range of ours could only contradict those.
COMES_WITH = {
    "pyarrow": "datasets",
    "huggingface-hub": "transformers",
    "tokenizers": "transformers",
    "pydantic": "fastapi",
    "starlette": "fastapi",
}
# Rooms that are there for an extra as a whole: their modules import it at the top.
ROOMS_OF_EXTRAS = ("serve.realtime.", "serve.chat.", "serve.web.", "serve.router.")
IMPORTED_BY = {  # by whom, where it is not us
    "tensorboard": "train/loop/loop.py through transformers' Trainer",
    "deepspeed": "train/loop/loop.py through transformers' Trainer",
    "gguf": "omni/checkpoint/gguf_files.py through transformers",
    "librosa": "speechmos, which does not ask for it",
    "av": "docs/benchmarks.md",
    "fairseq": "tests/omni/foreign/test_against_fairseq.py",
}
# As they are imported, of every extra.
OPTIONAL = {
    "tensorboard", "sklearn", "jiwer", "matplotlib", "pocketsphinx", "deepspeed", "ray", "av",
    "fairseq", "speechmos", "onnxruntime", "librosa", "gguf", "faster_whisper", "whisper",
    "fastapi", "uvicorn", "websockets", "prometheus_client", "silero_vad", "sounddevice",
}  # fmt: skip
CHECKERS_OWN = "_typeshed"  # types alone: no package, and nothing imports it at run time


CALLED_OTHERWISE = {"whisper": "openai-whisper"}  # module -> package, where it is not installed


def distribution(module: str) -> str:
    """Of what is not installed here the two names are the same, with few exceptions."""
    name = CALLED_OTHERWISE.get(module, module)
    return canonicalize_name(metadata.packages_distributions().get(module, [name])[0])


def imported() -> dict[str, set[str]]:
    """Third-party package, as it is imported -> the files that do, also inside functions."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        for node in ast.walk(parsed(path)):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for module in (name.split(".")[0] for name in modules):
                if module not in {*PACKAGES, *sys.stdlib_module_names, CHECKERS_OWN}:
                    found.setdefault(module, set()).add(str(path.relative_to(ROOT)))
    return found


def needed() -> set[tuple[str, str]]:
    """(package, extra) of every `need` in the code."""
    found = set()
    for path in FILES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "need":
                package, extra, _ = node.args
                if isinstance(package, ast.Constant):
                    assert isinstance(extra, ast.Constant)
                    found.add((str(package.value), str(extra.value)))
    return found


IMPORTED = imported()


@pytest.mark.parametrize("module", IMPORTED)
def test_what_the_code_imports_is_installed_or_asked_for(module: str) -> None:
    name = distribution(module)
    if name in CORE:
        return
    if name in COMES_WITH:
        parent = COMES_WITH[name]
        offered = CORE.union(*EXTRAS.values())
        assert parent in offered and name in names(metadata.requires(parent) or [])
        return
    extras = {extra for package, extra in needed() if package == module}
    assert extras, f"{module}: {IMPORTED[module]} import it and nothing asks for it by need()"


def test_what_is_asked_for_is_in_the_extra_that_is_named() -> None:
    asked = needed()
    assert len(asked) > 5
    for package, extra in asked:
        assert distribution(package) in EXTRAS[extra], f"{package} is not in extra {extra}"


def test_extras_hold_nothing_that_is_not_used() -> None:
    used = {distribution(module) for module in IMPORTED} | set(IMPORTED_BY)
    for extra, packages in EXTRAS.items():
        assert packages <= used, f"{extra}: nothing imports {packages - used}"
    assert set(IMPORTED_BY) <= set().union(*EXTRAS.values())
    assert {distribution(module) for module in OPTIONAL} == set().union(*EXTRAS.values())


@pytest.mark.parametrize("extra", sorted(EXTRAS.keys() - {"fairseq"}))
def test_the_docs_name_the_extra_where_it_is_needed(extra: str) -> None:
    assert any(f"omni-speech[{extra}]" in page.read_text() for page in PAGES)


def test_the_docs_name_no_extra_that_is_not_there() -> None:
    for page in PAGES:
        for named in re.findall(r"omni-speech\[([a-z,]+)\]", page.read_text()):
            assert set(named.split(",")) <= EXTRAS.keys() | FOR_DEVELOPERS, f"{page.name}: {named}"


# ------------------------------------------------------------------------------ in isolation


def without(packages: set[str], code: str) -> str:
    """What the code prints in a process that can't import these."""
    block = f"import sys\nfor name in {sorted(packages)}: sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", block + code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_extras_every_module_is_imported_and_the_nano_answers() -> None:
    code = f"""
import importlib, pkgutil
for package in {PACKAGES}:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.startswith({ROOMS_OF_EXTRAS}):
            importlib.import_module(module.name)
import omni
*_, done = omni.SpeechSession(*omni.load()).ask("What is the capital of Italy?")
print(done.text)
"""
    assert "Rome" in without(OPTIONAL, code)


FEATURES = {  # extra -> what its packages are there for
    "train": """
import numpy, sklearn.cluster, torch.utils.tensorboard
from train.bases.encoder import character_error_rate
from types import SimpleNamespace
row = numpy.array([[2, 0, 3]])
print(character_error_rate(SimpleNamespace(predictions=row, label_ids=row))["cer"])
""",
    "eval": """
from omni.metrics import word_error_rate
from train.evaluation.judges import Judge
import numpy
assert Judge(["yes", "no"]).hear(numpy.zeros(1600, "float32")) in ("", "yes", "no")
print(word_error_rate(["a b"], ["a b"], normaliser="basic").rate)
""",
    "serve": """
from pathlib import Path
from tempfile import TemporaryDirectory
from serve.tune.drawing import plot
from serve.tune.tuning import Machine, Report
machine = Machine(cores=1, torch_threads=1, device="cpu", load_before=0, load_after=0)
report = Report(
    rows=(), best=None, budget_ms=1.0, questions=1, mute=0, repeats=1, machine=machine
)
with TemporaryDirectory() as folder:
    import serve.web.app, serve.web.running
    from serve.realtime import silero
    silero()
    plot(report, Path(folder) / "a.svg")
    print(0.0 if (Path(folder) / "a.svg").stat().st_size else "empty")
""",
    "ray": """
from data_tools.steps.workers import executor_of
import ray.data
print(0.0 if executor_of("ray") else "none")
""",
}


@pytest.mark.parametrize("extra", FEATURES)
def test_an_extra_is_enough_for_its_features(extra: str) -> None:
    others = {module for module in OPTIONAL if distribution(module) not in EXTRAS[extra]}
    assert without(others, FEATURES[extra]) == "0.0"


# ------------------------------------------------------------------- said before the work begins


def test_what_is_installed_is_not_complained_of() -> None:
    need("jiwer", "eval", "this test")


def test_what_is_missing_is_named_with_its_remedy() -> None:
    with pytest.raises(UserError) as caught:
        need("no_such_package", "eval", "hearing")
    assert str(caught.value) == (
        "no_such_package: not installed, and hearing needs it; run: pip install 'omni-speech[eval]'"
    )


COMMANDS = {
    "omni-data": data_tools.cli.app,
    "omni-train": train.cli.app,
    "omni-serve": serve.cli.app,
}


@pytest.mark.parametrize(
    ("missing", "extra", "command"),
    [
        ("matplotlib", "serve", "omni-serve tune --checkpoint nowhere"),
        ("sklearn", "train", "omni-train units nowhere.jsonl --speech-encoder nowhere -o out"),
        ("ray", "ray", "omni-data speak nowhere.jsonl -o out.jsonl --executor ray"),
        ("ray", "cluster", "omni-serve run --engine ray --port 0"),
    ],
)
def test_a_command_says_it_before_it_reads_anything(
    missing: str, extra: str, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.chdir(tmp_path)
    name, *arguments = command.split()
    result = CliRunner().invoke(COMMANDS[name], arguments)
    assert result.exit_code == 2, result.output
    assert f"{missing}: not installed" in result.stderr
    assert f"pip install 'omni-speech[{extra}]'" in result.stderr
    assert result.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_training_says_it_before_it_loads_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from train.bases.encoder import train_encoder
    from train.bases.lm import train_lm
    from train.stages.recipes import STAGE1, STAGE2, nano_bases, nano_vocoder
    from train.stages.stage1 import train_stage1
    from train.stages.stage2 import train_stage2
    from train.voice.vocoder import train_vocoder

    nothing = Manifest(records=[], root=tmp_path)
    bases, voice = nano_bases(), nano_vocoder()
    trainings = [
        lambda: train_lm(nothing, size=bases.lm, loop=bases.lm_loop, output=tmp_path / "out"),
        lambda: train_encoder(
            [], [], architecture=bases.encoder, loop=bases.encoder_loop, output=tmp_path / "out"
        ),
        lambda: train_stage1(
            nothing, speech_encoder="nowhere", language_model="nowhere",
            recipe=STAGE1["nano"](), output=tmp_path / "out",
        ),
        lambda: train_stage2("nowhere", nothing, recipe=STAGE2["nano"](), output=tmp_path / "out"),
        lambda: train_vocoder(
            [], [], architecture=voice.architecture, loop=voice.loop, output=tmp_path / "out"
        ),
    ]  # fmt: skip
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for training in trainings:
        with pytest.raises(UserError, match=r"tensorboard: .*'omni-speech\[train\]'"):
            training()
    assert list(tmp_path.iterdir()) == []


def test_deepspeed_is_asked_for_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from train.loop import check_installed
    from train.stages.recipes import nano_bases

    monkeypatch.setitem(sys.modules, "deepspeed", None)
    loop = nano_bases().lm_loop
    check_installed(loop)
    with pytest.raises(UserError, match=r"deepspeed: .*'omni-speech\[deepspeed\]'"):
        check_installed(replace(loop, deepspeed="zero3.json"))


@pytest.mark.parametrize("missing", ["tensorboard", "sklearn", "jiwer", "pocketsphinx"])
def test_the_nano_is_not_begun_without_what_its_last_part_needs(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from train.nano import NANO

    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf"{missing}: .*omni-speech\[(train|eval)\]"):
        NANO.build_all(tmp_path)


def test_evaluation_says_it_before_it_loads_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from train.evaluation.evaluate import Evaluation, EvaluationConfig

    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(UserError, match=r"jiwer: .*'omni-speech\[eval\]'"):
        Evaluation(
            "nowhere",
            Manifest(records=[], root=tmp_path),
            EvaluationConfig(splits=("test",)),
            tmp_path,
        )


def test_a_rating_that_will_be_missing_is_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from train.evaluation.quality import load_dnsmos

    monkeypatch.setitem(sys.modules, "speechmos", None)
    assert load_dnsmos() is None
    assert "omni-speech[metrics]" in caplog.text
