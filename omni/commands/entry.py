"""What the four commands share: how they begin and end, --version, and earlier spellings."""

import codecs
import io
import sys
from collections.abc import Callable
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
    """The functions as commands of these names, which end as `friendly` says."""
    for command in commands:
        app.command()(friendly(command))


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
