"""The README says what is true: its commands exist, its Python runs, its tour is complete."""

import re
import shlex
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import soundfile
import typer

import data_tools.cli
import omni
import omni.cli
import serve.cli
import train.cli
from tests.any_to_any import REFUSED
from tests.paths import ROOT
from tests.tiny import tiny_model, tiny_processor

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {
    "omni": omni.cli.app,
    "omni-data": data_tools.cli.app,
    "omni-train": train.cli.app,
    "omni-serve": serve.cli.app,
}
# Their options are not ours to check.
FOREIGN_COMMANDS = ("cp", "pip", "apt-get", "python", "export", "docker", "helm", "ray")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def command_lines() -> list[tuple[str, str]]:
    """(page, line) of everything that a reader may paste into a shell; `\\` joins lines."""
    return [
        (page.name, line.split("  #")[0].strip())
        for page in PAGES
        for block in blocks(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
        if line.split("#")[0].strip()
    ]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_there_are_commands_to_check() -> None:
    lines = [line for _, line in command_lines()]
    assert any(line.startswith("omni ask") for line in lines)
    assert "make demo" in lines and "make test" in lines


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_every_command_and_its_options_exist(page: str, line: str) -> None:
    words = shlex.split(line)
    if words[0] == "time":
        words = words[1:]
    if words[0] == "torchrun":
        words = words[words.index("--no-python") + 1 :]
    if words[0] == "make":
        assert words[1] in make_targets(), f"{page}: make {words[1]}"
        return
    if words[0] in FOREIGN_COMMANDS:
        return
    assert words[0] in COMMANDS, f"{page}: {line}"
    command = typer.main.get_command(COMMANDS[words[0]])
    arguments = words[1:]
    while subcommands := getattr(command, "commands", {}):
        assert arguments and arguments[0] in subcommands, f"{page}: no such command: {line}"
        command = subcommands[arguments.pop(0)]
    named = [[*parameter.opts, *parameter.secondary_opts] for parameter in command.params]
    known = set(chain.from_iterable(named))  # --with and --without
    for word in arguments:
        if re.match(r"--?[a-z]", word):
            assert word in known, f"{page}: {line}: no option {word}"
    # Refuses missing and surplus arguments, and values of the wrong type.
    command.make_context(command.name, arguments, resilient_parsing=False)


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    (example,) = blocks(ROOT / "README.md", "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(omni, "load", lambda: (tiny_model(), tiny_processor()), raising=False)
    soundfile.write("question.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    exec(example, {})
    assert "first sound after" in capsys.readouterr().out


def test_the_calls_of_transformers_that_a_page_shows_run_on_the_nano(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = Path(omni.__file__).parent / "nano" / "questions"
    for name, stem in (("question", "1-capital-of-france"), ("another", "7-after-february")):
        shutil.copy(questions / f"{stem}.wav", tmp_path / f"{name}.wav")
    monkeypatch.chdir(tmp_path)
    page = blocks(ROOT / "docs" / "transformers.md", "python")
    names: dict[str, Any] = {}
    for block in page:
        if "pipeline(" in block and REFUSED:
            with pytest.raises(ImportError, match="librosa"):
                exec(block, names)
            continue
        exec(block, names)
    assert len(page) > 4
    assert names["answer"] == "The capital of France is Paris."
    assert names["answers"] == ["The capital of France is Paris.", "March comes after February."]
    assert soundfile.info("answer.wav").duration > 1


def tour() -> str:
    return README.split("## Tour")[1].split("\n## ")[0]


def rooms_and_flat_files() -> list[str]:
    packages = [ROOT / name for name in ("omni", "train", "data_tools", "serve")]
    flat = [path for package in packages for path in package.glob("*.py")]
    rooms = [path.parent for package in packages for path in package.glob("*/__init__.py")]
    named = [path for path in flat if path.name != "__init__.py"] + rooms
    return sorted(str(path.relative_to(ROOT)) for path in named)


def test_the_tour_has_a_line_for_every_room_and_flat_file_and_no_other() -> None:
    package, toured = "", []
    for line in tour().splitlines():
        if found := re.match(r"([a-z_]+)/  \S", line):
            package = found[1]
        elif found := re.match(r"  ([a-z_0-9]+)(\.py|/) +\S", line):
            toured.append(f"{package}/{found[1]}{found[2].removesuffix('/')}")
    assert sorted(toured) == rooms_and_flat_files()


def test_links_inside_the_project_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("package", ["omni", "train", "data_tools", "serve"])
def test_the_reference_has_every_module_and_no_other(package: str) -> None:
    page = (ROOT / "docs" / "reference" / f"{package}.md").read_text()
    commands = ("__init__.py", "cli.py")
    expected = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for pattern in ("*.py", "*/*.py")
        for path in (ROOT / package).glob(pattern)
        if path.name not in commands
    ]
    assert sorted(re.findall(r"^::: (\S+)$", page, re.M)) == sorted(expected)
