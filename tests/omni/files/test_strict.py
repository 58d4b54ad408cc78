"""Configurations from JSON: what does not fit is refused by name."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from omni.files.errors import UserError
from omni.files.folders import CheckpointError
from omni.files.strict import build_strictly


@dataclass(frozen=True, kw_only=True)
class Inner:
    first_wait_s: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Outer:
    width: int
    rates: tuple[tuple[int, ...], ...] = ()
    name: str | None = None
    inner: Inner = field(default_factory=Inner)
    mode: Literal["slow", "quick"] = "slow"
    secrets: tuple[str, ...] = field(default=(), repr=False)


def test_lists_and_nested_objects_become_what_the_fields_are():
    values = {"width": 3, "rates": [[1, 2], [3]], "inner": {"first_wait_s": 2}}
    built = build_strictly(Outer, values, where="a")
    assert built == Outer(width=3, rates=((1, 2), (3,)), inner=Inner(first_wait_s=2.0))
    assert type(built.inner.first_wait_s) is float
    assert build_strictly(Outer, {"width": 3, "name": None}, where="a") == Outer(width=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"width": 3, "depth": 1},
            "^a: unknown key 'depth'; known are inner, mode, name, rates, secrets, width$",
        ),
        ({"width": 3, "inner": {"wait": 1}}, "^a: unknown key 'wait'; ask us$"),
        ({}, "^a: key 'width' is missing; ask us$"),
        ({"width": "3"}, "^a: width='3': must be of type int; ask us$"),
        ({"width": 3.5}, r"a: width=3\.5: must be of type int"),
        ({"width": 3, "rates": "12"}, "rates='12': must be a list, each a list, each of type int;"),
        ({"width": 3, "mode": True}, "a: mode=True: must be one of slow, quick; ask us"),
        ({"width": 3, "secrets": "hush"}, "^a: secrets: must be a list, each of type str; ask us"),
        ({"width": 3, "rates": [[1, "2"]]}, "a: rates"),
        ({"width": 3, "inner": {"first_wait_s": "x"}}, "a: inner.first_wait_s='x': must be of"),
        ([1], r"a=\[1\]: must map names to values; ask us"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(values, message):
    with pytest.raises(UserError, match=message):
        build_strictly(Outer, values, where="a", remedy="ask us")
    with pytest.raises(CheckpointError):
        build_strictly(Outer, values, where="a", error=CheckpointError)
