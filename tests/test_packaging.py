"""What gets installed: ranges with both ends, and one set of versions inside them, tested."""

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Installed by hand where they are wanted, so not among the versions that are tested together.
ALONE = {
    "docs",
    "deepspeed",
    "cluster",
    "media",
    "fairseq",
    "metrics",
    "voices",
    "judge",
    "whisper",
}


def requirements(lines: list[str]) -> Iterator[Requirement]:
    """With those of the extras that a line names, as in omni-speech[train]."""
    for line in lines:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            for extra in sorted(requirement.extras):
                yield from requirements(EXTRAS[extra])
        else:
            yield requirement


TEST_TOOLS = {str(Requirement(line)) for line in EXTRAS["test"]}
EVERY = list(
    requirements(PROJECT["dependencies"] + [line for lines in EXTRAS.values() for line in lines])
)
TOGETHER = list(requirements(PROJECT["dependencies"] + EXTRAS["test"]))
USED = [requirement for requirement in TOGETHER if str(requirement) not in TEST_TOOLS]


def pins() -> list[tuple[str, str]]:
    """(name, version) of each line of constraints.txt that is no comment."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    split = [line.split("==") for line in lines if not line.startswith("#")]
    assert all(len(pin) == 2 for pin in split), "constraints.txt: only NAME==VERSION; make it anew"
    return [(name, version) for name, version in split]


PINNED = {canonicalize_name(name): Version(version) for name, version in pins()}


@pytest.mark.parametrize("requirement", EVERY, ids=str)
def test_every_range_has_both_ends(requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators in ({">=", "<"}, {"=="}), f"{requirement}: write >=LOWEST,<ABOVE_TESTED"


@pytest.mark.parametrize("requirement", TOGETHER, ids=str)
def test_the_tested_version_is_pinned_and_in_its_range(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    assert name in PINNED, f"{name}: not in constraints.txt; run make constraints"
    assert requirement.specifier.contains(PINNED[name]), f"{PINNED[name]} is outside {requirement}"


@pytest.mark.parametrize("requirement", USED, ids=str)
def test_a_range_ends_at_the_next_release_but_patches(requirement: Requirement) -> None:
    """What nobody has run is not promised. Test tools, which no user meets, may be wider."""
    tested = PINNED[canonicalize_name(requirement.name)]
    (end,) = [Version(s.version) for s in requirement.specifier if s.operator == "<"]
    assert end == Version(f"{tested.major}.{tested.minor + 1}"), f"{requirement}: {tested} was run"


def test_the_extras_are_tested_together_or_named_as_alone() -> None:
    (itself,) = [r for r in map(Requirement, EXTRAS["test"]) if r.name == PROJECT["name"]]
    assert itself.extras | {"test"} | ALONE == set(EXTRAS)


def test_the_pins_resolve_on_any_index() -> None:
    """No paths, no builds of one machine (+cpu), and one line for each package, sorted."""
    for name, version in pins():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name) and Version(version).local is None, name
    names = [name.lower() for name, _ in pins()]
    assert names == sorted(names) and len(PINNED) == len(names)


def test_make_installs_what_was_tested() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("$(VENV)/.core", "$(VENV)/.test"):
        (recipe,) = re.findall(rf"^{re.escape(target)}:(.*?)\n\n", makefile, re.M | re.S)
        assert "constraints.txt" in recipe.splitlines()[0], f"{target}: is not remade by new pins"
        assert "--constraint constraints.txt" in recipe
