"""What the four commands share: how they begin and end, --version, and earlier spellings."""

import codecs
import io
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from omni.commands.process import wait_without_spinning
from omni.files import ending_well, friendly

# Options that had other names before 0.2.0. `--help` shows the new ones; both are understood.
EARLIER = {"out": "output", "encoder": "speech-encoder", "engine": "executor"}


class Commands(TyperGroup):
    """A command of commands whose own output, such as help, ends well too."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As typer's, with every error told as `ending_well` says."""
        write_any_name()
        with ending_well():
            return super().main(*args, **kwargs)


def command_line(name: str, help: str) -> typer.Typer:
    """An empty command with `--version`; commands are added to it."""
    wait_without_spinning()
    app = typer.Typer(
        name=name,
        help=help,
        cls=Commands,
        no_args_is_help=True,
        add_completion=False,
        context_settings={"token_normalize_func": lambda word: EARLIER.get(word, word)},
    )

    def tell_version(asked: bool) -> None:
        if asked:
            from omni import __version__

            typer.echo(f"{name} {__version__}")
            raise typer.Exit()

    @app.callback()
    def main(
        version: Annotated[
            bool,
            typer.Option(
                "--version", callback=tell_version, is_eager=True, help="Say which version this is."
            ),
        ] = False,
    ) -> None:
        pass

    return app


def add_commands(app: typer.Typer, *commands: Callable[..., None]) -> None:
    """The functions as commands of these names, which end as `friendly` says.

    A parameter whose type is a dataclass stands for the dataclass's fields, each an option.
    """
    for command in commands:
        app.command()(friendly(with_fields_as_options(command)))


def with_fields_as_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer is to see it: in the place of a dataclass stand the fields of which it
    is made when the command is called."""
    shown: list[Parameter] = []
    made: dict[str, tuple[type, list[str]]] = {}
    for parameter in signature(command, eval_str=True).parameters.values():
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            fields = signature(parameter.annotation, eval_str=True).parameters
            made[parameter.name] = parameter.annotation, [*fields]
            shown.extend(fields.values())
        else:
            shown.append(parameter)

    @wraps(command)
    def called(**given: Any) -> None:
        for name, (kind, fields) in made.items():
            given[name] = kind(**{field: given.pop(field) for field in fields})
        command(**given)

    named = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in shown]
    vars(called)["__signature__"] = Signature(named)  # what inspect, and so typer, looks at first
    return called


def write_any_name() -> None:
    """File names need not be text: their odd bytes are written as they are, and what the
    terminal's character set lacks is escaped. By default either is an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_AS_IT_IS)


def _as_it_is(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


_AS_IT_IS = "omni.as_it_is"
codecs.register_error(_AS_IT_IS, _as_it_is)
