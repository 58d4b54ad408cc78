"""Extras hold what the code imports and no more, and the docs name them."""

import ast
import re
import sys
from importlib import metadata

import pytest

from tests.extras import CORE, EXTRAS, FOR_DEVELOPERS, OPTIONAL, PACKAGES, distribution, names
from tests.paths import ROOT
from tests.source import parsed

FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
# Bound by the ranges of those that bring them; a range of ours could only contradict those.
COMES_WITH = {
    "pyarrow": "datasets",
    "huggingface-hub": "transformers",
    "tokenizers": "transformers",
    "pydantic": "fastapi",
    "starlette": "fastapi",
}
IMPORTED_BY = {  # by whom, where it is not us
    "tensorboard": "train/loop/loop.py through transformers' Trainer",
    "deepspeed": "train/loop/loop.py through transformers' Trainer",
    "gguf": "omni/checkpoint/gguf_files.py through transformers",
    "librosa": "speechmos, which does not ask for it",
    "av": "docs/benchmarks.md",
    "fairseq": "tests/omni/foreign/test_against_fairseq.py",
}
CHECKERS_OWN = "_typeshed"  # types alone: no package, and nothing imports it at run time


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
