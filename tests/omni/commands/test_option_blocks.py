"""Options that several commands share: a dataclass in the place of each, made of what was given."""

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from omni.commands import add_commands
from omni.files import UserError


@dataclass(frozen=True, kw_only=True)
class Where:
    street: Annotated[str, typer.Option(help="Its name.")] = "here"
    number: Annotated[int | None, typer.Option(min=1)] = None
    floor: Annotated[int, typer.Option()] = 0


@dataclass(frozen=True, kw_only=True)
class OnTheGround(Where):
    floor: int = field(default=0, init=False)


visits: list[tuple[str, Where, bool]] = []


def visit(who: str, *, where: Where, bell: bool = True) -> None:
    if where.floor > 9:
        raise UserError(f"floor={where.floor}: must be at most 9")
    visits.append((who, where, bell))


def garden(where: OnTheGround) -> None:
    visits.append(("", where, False))


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer()
    add_commands(app, visit, garden)
    return app


def told(app: typer.Typer, *arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_fields_are_made_of_the_options_that_are_given(app: typer.Typer) -> None:
    visits.clear()
    told(app, "visit", "me", "--number", "3", "--no-bell")
    told(app, "garden", "--street", "there")
    assert visits == [
        ("me", Where(number=3), False),
        ("", OnTheGround(street="there"), False),
    ]


def test_help_has_the_fields_in_the_place_of_the_block(app: typer.Typer) -> None:
    shown = told(app, "visit", "--help")
    names = ("--street", "--number", "--floor", "--bell")
    places = [shown.index(name) for name in names]
    assert places == sorted(places) and "Its name." in shown and "--where" not in shown


def test_a_field_that_is_settled_is_no_option(app: typer.Typer) -> None:
    assert "--number" in told(app, "garden", "--help")
    assert "--floor" not in told(app, "garden", "--help")


def test_rules_of_the_options_and_of_the_command_hold_as_before(app: typer.Typer) -> None:
    for wrong in (["--number", "0"], ["--floor", "10"], ["--where", "x"]):
        assert CliRunner().invoke(app, ["visit", "me", *wrong]).exit_code == 2
